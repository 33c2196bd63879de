/*
 * iocpStream.c --
 *	Streams of small buffers. Nagle's algorithm is off, so that nothing waits for a peer. But
 *	fcopy writes one of Tcl's full buffers, 4 kB by default, in each pass of the event loop, and
 *	the peer would be woken for each. So the algorithm is on while such a stream lasts: the
 *	kernel makes whole segments of what comes faster than the peer takes it.
 *
 *	  none -> stream	IocpStreamSend, when it has seen STREAM_MIN full buffers in passes
 *				that follow each other closely
 *	  stream -> none	IocpStreamCheck, when STREAM_PASSES have brought no other; or
 *				IocpStreamEnd, when the channel changes its thread, or -nagle is set
 *
 *	The kernel sends at once what it has when the algorithm is turned off, and when the channel
 *	is closed: the end of a stream waits for a few passes of the loop, and not for the peer.
 */

#include "iocpInt.h"

#define STREAM_MAX 32768	/* Larger buffers are segments by themselves. */
#define STREAM_MIN 16
#define STREAM_PASSES 8

/*
 * IocpStreamSend --
 *	A channel writes. One that blocks has no stream: a script that writes and then waits in
 *	place runs no pass that would see its end.
 */
void
IocpStreamSend(IocpChan *chanPtr, int toWrite)
{
    uint64_t pass = chanPtr->threadPtr->passCount;
    IocpSend *sendPtr;

    if (!IOCP_NODELAY_SENDS || toWrite > STREAM_MAX
	    || toWrite != Tcl_GetChannelBufferSize(chanPtr->channel)
	    || chanPtr->settingsPtr->sockopts[IOCP_SO_NODELAY] <= 0
	    || !(chanPtr->flags & IOCP_CHANF_NONBLOCKING)
	    || pass == chanPtr->sendPtr->streamPass || !IocpSendOpen(chanPtr)) {
	return;
    }
    sendPtr = chanPtr->sendPtr;
    if (pass - sendPtr->streamPass > STREAM_PASSES) {
	IocpStreamEnd(chanPtr);
    }
    sendPtr->streamPass = pass;
    if (++sendPtr->streamed == STREAM_MIN) {
	IocpSocketSet(chanPtr->handle.fd, IOCP_SO_NODELAY, 0);
    }
    if (IocpStreamLasts(chanPtr)) {
	IocpEventStream(chanPtr);
    }
}

/*
 * IocpStreamLasts --
 *	Whether Nagle's algorithm is on although the channel's -nagle is 0.
 */
int
IocpStreamLasts(const IocpChan *chanPtr)
{
    return chanPtr->sendPtr->streamed >= STREAM_MIN;
}

void
IocpStreamEnd(IocpChan *chanPtr)
{
    if (IocpStreamLasts(chanPtr)) {
	IocpSocketSet(chanPtr->handle.fd, IOCP_SO_NODELAY, 1);
    }
    if (chanPtr->sendPtr->streamed > 0) {
	chanPtr->sendPtr->streamed = 0;
    }
}

/*
 * IocpStreamCheck --
 *	End the stream, if there is one, or look again in the next pass.
 */
void
IocpStreamCheck(IocpChan *chanPtr)
{
    if (!IocpStreamLasts(chanPtr) || chanPtr->state != IOCP_OPEN) {
	return;
    }
    if (chanPtr->threadPtr->passCount - chanPtr->sendPtr->streamPass >= STREAM_PASSES) {
	IocpStreamEnd(chanPtr);
    } else {
	IocpEventStream(chanPtr);
    }
}
