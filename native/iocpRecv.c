/*
 * iocpRecv.c --
 *	Receiving: what is posted to the engine in each of the three modes, and the queue of
 *	received buffers from which Tcl reads.
 *
 *	At most one receive is in flight for a channel, so that order is certain; burst-detection
 *	gives it several buffers. Whatever the mode, received buffers join one queue, so switching
 *	modes on a live channel loses and reorders nothing.
 *
 *	While a copy takes what arrives (iocpCopy.c), the mode has no say: buffers of the pool, as
 *	long as the copy has few that are not gone.
 *
 *	mode			posted when			buffers
 *	zero-byte		the script waits for data	one of the pool, with the data
 *	flow-controlled		all received data is read	one of -buffersize
 *	burst-detection		fewer than bufcap are unread	1..cap of -buffersize
 *
 *	Burst-detection posts one buffer more each time the last receive filled all of them, and one
 *	again when it did not fill the first.
 *
 *	For a handler, a zero-byte receive goes on after its first result, where the engine can: the
 *	next request needs no other. What comes while something is unread joins that in its buffer.
 *	When nobody wants to be told any more, it ends (IocpRecvEndRepeat).
 *
 *	Buffers of the pool are large, and are filled ahead of the script: with those of all
 *	connections that wait for it, the pool would be used up, and none of them be in the
 *	processor's cache. So what is small goes into memory of its size at once (CopyOut), and the
 *	kernel fills the same few buffers over and over.
 */

#include "iocpInt.h"

#define ASK_MAX 4
#define COPY_MAX 960		/* With its header, a size that malloc has at hand. */
#define RUN_MAX 16000000	/* So many bytes are enough for one read of everything. */

static size_t
ChunkSize(IocpChan *chanPtr)
{
    Tcl_Size size = chanPtr->channel != NULL ? Tcl_GetChannelBufferSize(chanPtr->channel) : 0;

    return size > 0 ? (size_t)size : 4096;
}

/*
 * BuffersToPost --
 *	How many buffers of its own the next receive gets: 0, no receive; -1, one of the pool.
 */
static int
BuffersToPost(IocpChan *chanPtr)
{
    const IocpSettings *settingsPtr = chanPtr->settingsPtr;
    int room;

    if (chanPtr->sourcePtr != NULL) {
	return !IocpMoveTakes(chanPtr) ? 0 : (chanPtr->flags & IOCP_CHANF_NO_POOL) ? 1 : -1;
    }
    switch (settingsPtr->recvMode) {
    case IOCP_RECV_ZERO_BYTE:
	if (chanPtr->recvFirstPtr != NULL || !((chanPtr->watchMask & TCL_READABLE)
		|| (chanPtr->flags & IOCP_CHANF_RECV_WANTED))) {
	    return 0;
	}
	return (chanPtr->flags & IOCP_CHANF_NO_POOL) ? 1 : -1;
    case IOCP_RECV_FLOW_CONTROLLED:
	return chanPtr->recvFirstPtr == NULL;
    case IOCP_RECV_BURST:
	room = settingsPtr->recvBufCap - chanPtr->recvCount;
	if (chanPtr->recvDepth > settingsPtr->recvCap) {
	    chanPtr->recvDepth = settingsPtr->recvCap;
	}
	if (chanPtr->recvDepth > IOCP_VECS_MAX) {
	    chanPtr->recvDepth = IOCP_VECS_MAX;
	}
	return room < chanPtr->recvDepth ? (room > 0 ? room : 0) : chanPtr->recvDepth;
    }
    return 0;
}

/*
 * IocpRecvArm --
 *	Post a receive if the mode calls for one now.
 */
void
IocpRecvArm(IocpChan *chanPtr)
{
    IocpOp *opPtr = &chanPtr->recvOp;
    int count;

    if (chanPtr->state != IOCP_OPEN || opPtr->inFlight || chanPtr->recvError != 0 || chanPtr->waits
	    || (chanPtr->flags & (IOCP_CHANF_EOF | IOCP_CHANF_DETACHED))) {
	return;
    }
    count = BuffersToPost(chanPtr);
    if (count == 0) {
	return;
    }
    opPtr->bufPtr = NULL;
    opPtr->bufCount = 0;
    for (; opPtr->bufCount < count; opPtr->bufCount++) {
	IocpBuf *bufPtr = IocpBufNew(chanPtr->threadPtr, ChunkSize(chanPtr));

	if (bufPtr == NULL) {
	    break;
	}
	bufPtr->nextPtr = opPtr->bufPtr;
	opPtr->bufPtr = bufPtr;
    }
    if (count > 0 && opPtr->bufCount == 0) {
	chanPtr->waits = 1;
	IocpThreadRetryLater(chanPtr->threadPtr);
	return;
    }
    opPtr->flags = (chanPtr->flags & IOCP_CHANF_RECV_FULL) ? 0 : IOCP_OPF_EXPECT_WAIT;
    if (count < 0 && opPtr->flags != 0 && (chanPtr->watchMask & TCL_READABLE)
	    && chanPtr->sourcePtr == NULL) {
	opPtr->flags |= IOCP_OPF_REPEAT;
    }
    if (!IocpOpSubmit(chanPtr, opPtr)) {
	IocpBufFreeChain(chanPtr->threadPtr, opPtr->bufPtr);
	opPtr->bufPtr = NULL;
    }
}

/*
 * IocpRecvEndRepeat --
 *	Let a receive that goes on come to its end, and no other follow: what is in the socket stays
 *	there.
 */
void
IocpRecvEndRepeat(IocpChan *chanPtr)
{
    if (chanPtr->recvOp.flags & IOCP_OPF_REPEAT) {
	chanPtr->flags &= ~(unsigned)IOCP_CHANF_RECV_WANTED;
	IocpOpCancel(chanPtr, &chanPtr->recvOp);
    }
}

/*
 * Join --
 *	Add what came in a buffer of the pool to what is in the last one of the queue, so that many
 *	small pieces take no buffer each. (A copy has those of the queue in flight.)
 * Results:
 *	0 if there is no such one, or no room in it.
 */
static int
Join(IocpChan *chanPtr, IocpBuf *bufPtr, size_t size)
{
    IocpBuf *lastPtr = chanPtr->recvLastPtr;

    if (lastPtr == NULL || size > bufPtr->size || lastPtr->size - lastPtr->end < size
	    || chanPtr->sourcePtr != NULL) {
	return 0;
    }
    memcpy(lastPtr->data + lastPtr->end, bufPtr->data, size);
    lastPtr->end += size;
    IocpBufFree(chanPtr->threadPtr, bufPtr);
    return 1;
}

static void
Append(IocpChan *chanPtr, IocpBuf *bufPtr)
{
    IocpBufAppend(&chanPtr->recvFirstPtr, &chanPtr->recvLastPtr, bufPtr);
    chanPtr->recvCount++;
}

/*
 * CopyOut --
 *	Put a small piece that came in a buffer of the pool into one of its own. Only the first that
 *	is unread: what comes behind it would find no room in there to join it. (A copy wants them
 *	as they are.)
 * Results:
 *	0 if it is to stay where it is.
 */
static int
CopyOut(IocpChan *chanPtr, IocpBuf *bufPtr, size_t size)
{
    IocpBuf *copyPtr;

    if (size > COPY_MAX || chanPtr->recvFirstPtr != NULL || chanPtr->sourcePtr != NULL) {
	return 0;
    }
    copyPtr = IocpBufCopy(chanPtr->threadPtr, bufPtr->data, size);
    if (copyPtr == NULL) {
	return 0;
    }
    Append(chanPtr, copyPtr);
    IocpBufFree(chanPtr->threadPtr, bufPtr);
    return 1;
}

/*
 * TakeIn --
 *	Put the received bytes into the queue: the pool buffers that they came in, or as many of the
 *	op's own buffers as they fill.
 */
static void
TakeIn(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    IocpOp *opPtr = &chanPtr->recvOp;
    IocpBuf *bufPtr = compPtr->bufPtr != NULL ? compPtr->bufPtr : opPtr->bufPtr;
    size_t left = (size_t)compPtr->result;
    int filled = 0;
    int full;

    IOCP_COUNT(chanPtr->threadPtr, bytesReceived, left);
    IocpTimeoutReceived(chanPtr, left);
    if (compPtr->bufPtr != NULL
	    && (Join(chanPtr, bufPtr, left) || CopyOut(chanPtr, bufPtr, left))) {
	left = 0;
    }
    while (left > 0) {
	IocpBuf *nextPtr = bufPtr->nextPtr;
	size_t part = left < bufPtr->size ? left : bufPtr->size;

	bufPtr->start = 0;
	bufPtr->end = part;
	filled += part == bufPtr->size;
	left -= part;
	Append(chanPtr, bufPtr);
	bufPtr = nextPtr;
    }
    if (compPtr->bufPtr == NULL) {
	opPtr->bufPtr = bufPtr;
    }
    full = compPtr->bufPtr != NULL ? filled > 0 : filled == opPtr->bufCount;
    if (full || (compPtr->flags & IOCP_COMPF_MORE_DATA)) {
	chanPtr->flags |= IOCP_CHANF_RECV_FULL;
    } else {
	chanPtr->flags &= ~(unsigned)IOCP_CHANF_RECV_FULL;
    }
    if (compPtr->bufPtr == NULL && full) {
	chanPtr->recvDepth++;
    } else if (filled == 0) {
	chanPtr->recvDepth = 1;
    }
}

/*
 * IocpRecvDone --
 *	A receive is complete.
 */
void
IocpRecvDone(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    IocpOp *opPtr = &chanPtr->recvOp;
    int error = compPtr->result < 0 ? -compPtr->result : 0;

    if (chanPtr->state == IOCP_OPEN && compPtr->result > 0) {
	chanPtr->flags &= ~(unsigned)(IOCP_CHANF_RECV_WANTED | IOCP_CHANF_NO_POOL);
	TakeIn(chanPtr, compPtr);
    } else {
	IocpBufFreeChain(chanPtr->threadPtr, compPtr->bufPtr);
    }
    IocpBufFreeChain(chanPtr->threadPtr, opPtr->bufPtr);
    opPtr->bufPtr = NULL;
    if (chanPtr->state != IOCP_OPEN) {
	return;
    }
    switch (error) {
    case 0:
	if (compPtr->result == 0) {
	    chanPtr->flags |= IOCP_CHANF_EOF;
	} else if (!(compPtr->flags & IOCP_COMPF_MORE)) {
	    IocpEventDirty(chanPtr);
	}
	break;
    case ENOBUFS:
	/*
	 * The pool has reached its limit: receive into a buffer of the channel's own.
	 */
	chanPtr->flags |= IOCP_CHANF_NO_POOL;
	IocpEventDirty(chanPtr);
	return;
    case EAGAIN:
    case EINTR:
    case ECANCELED:
	IocpEventDirty(chanPtr);
	return;
    case ENOMEM:
	chanPtr->waits = 1;
	IocpThreadRetryLater(chanPtr->threadPtr);
	return;
    default:
	/*
	 * A reset is the end of the data, as in the core's driver.
	 */
	IocpChanError(chanPtr, error);
	if (error == ECONNRESET) {
	    chanPtr->flags |= IOCP_CHANF_EOF;
	} else {
	    chanPtr->recvError = error;
	}
	break;
    }
    if (IocpProxyAwaits(chanPtr)) {
	IocpProxyReceived(chanPtr);
    } else {
	IocpEventTell(chanPtr);
    }
}

/*
 * IocpRecvConsume --
 *	size bytes of the queue are read.
 */
void
IocpRecvConsume(IocpChan *chanPtr, size_t size)
{
    while (size > 0) {
	IocpBuf *bufPtr = chanPtr->recvFirstPtr;
	size_t part = bufPtr->end - bufPtr->start;

	if (part > size) {
	    bufPtr->start += size;
	    return;
	}
	size -= part;
	chanPtr->recvFirstPtr = bufPtr->nextPtr;
	if (chanPtr->recvFirstPtr == NULL) {
	    chanPtr->recvLastPtr = NULL;
	}
	chanPtr->recvCount--;
	IocpBufFree(chanPtr->threadPtr, bufPtr);
    }
}

/*
 * IocpRecvTake --
 *	Take what is received out of the queue.
 * Results:
 *	How many bytes.
 */
size_t
IocpRecvTake(IocpChan *chanPtr, char *buf, size_t room)
{
    size_t taken = 0;

    while (taken < room && chanPtr->recvFirstPtr != NULL) {
	IocpBuf *bufPtr = chanPtr->recvFirstPtr;
	size_t part = bufPtr->end - bufPtr->start;

	if (part > room - taken) {
	    part = room - taken;
	}
	memcpy(buf + taken, bufPtr->data + bufPtr->start, part);
	taken += part;
	IocpRecvConsume(chanPtr, part);
    }
    return taken;
}

/*
 * IocpRecvPutBack --
 *	What the buffer holds comes before everything in the queue. The buffer is the queue's.
 */
void
IocpRecvPutBack(IocpChan *chanPtr, IocpBuf *bufPtr)
{
    if (bufPtr->start == bufPtr->end) {
	IocpBufFree(chanPtr->threadPtr, bufPtr);
	return;
    }
    bufPtr->nextPtr = chanPtr->recvFirstPtr;
    chanPtr->recvFirstPtr = bufPtr;
    if (bufPtr->nextPtr == NULL) {
	chanPtr->recvLastPtr = bufPtr;
    }
    chanPtr->recvCount++;
}

/*
 * IocpRecvUnread --
 *	Take back what Tcl has read ahead: it is at the head of the queue again. A copy has the
 *	channel, so that Tcl gets nothing more of it meanwhile.
 * Results:
 *	0 if Tcl keeps it: there is no memory for it, or the channel is busy.
 */
int
IocpRecvUnread(IocpChan *chanPtr)
{
    Tcl_Size size = Tcl_InputBuffered(chanPtr->channel);
    IocpBuf *bufPtr;

    if (size == 0) {
	return 1;
    }
    bufPtr = IocpBufNew(chanPtr->threadPtr, (size_t)size);
    if (bufPtr == NULL) {
	return 0;
    }
    size = Tcl_Read(chanPtr->channel, bufPtr->data, size);
    if (size <= 0) {
	IocpBufFree(chanPtr->threadPtr, bufPtr);
	return 0;
    }
    bufPtr->end = (size_t)size;
    IocpRecvPutBack(chanPtr, bufPtr);
    return Tcl_InputBuffered(chanPtr->channel) == 0;
}

/*
 * IocpRecvRead --
 *	Give Tcl what is received. A blocking channel waits for the first byte by driving the
 *	engine; what completes for other channels meanwhile is queued for the event loop. On a
 *	non-blocking one, Tcl reads until it hears that there is no more: from a peer that sends as
 *	fast as that, it would for ever, so it does hear that at times.
 * Results:
 *	Bytes; 0 at the end of the data; -1 and *errorCodePtr, EAGAIN among others.
 */
int
IocpRecvRead(IocpChan *chanPtr, char *buf, int toRead, int *errorCodePtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int asked = 0;

    if (!(chanPtr->flags & IOCP_CHANF_NONBLOCKING)) {
	IocpTimeoutWait(chanPtr);
    }
    for (;;) {
	int taken = (int)IocpRecvTake(chanPtr, buf, (size_t)toRead);

	if (taken > 0) {
	    chanPtr->recvRun += (size_t)taken;
	    if (!chanPtr->recvOp.inFlight && (chanPtr->recvFirstPtr == NULL
		    || chanPtr->settingsPtr->recvMode == IOCP_RECV_BURST)) {
		IocpEventDirty(chanPtr);
	    }
	    return taken;
	}
	if (chanPtr->recvError != 0) {
	    *errorCodePtr = chanPtr->recvError;
	    chanPtr->recvError = 0;
	    chanPtr->flags |= IOCP_CHANF_EOF;
	    return -1;
	}
	if (chanPtr->flags & IOCP_CHANF_EOF) {
	    return 0;
	}
	if (!chanPtr->recvOp.inFlight) {
	    chanPtr->flags |= IOCP_CHANF_RECV_WANTED;
	    IocpEventDirty(chanPtr);
	}
	if (chanPtr->flags & IOCP_CHANF_NONBLOCKING) {
	    /*
	     * An interrupted or refused receive is asked again: what lies in the socket is to be
	     * found.
	     */

	    if (IocpThreadMayDefer(chanPtr) || asked == ASK_MAX
		    || (asked > 0 && chanPtr->recvOp.inFlight) || chanPtr->recvRun >= RUN_MAX) {
		chanPtr->recvRun = 0;
		*errorCodePtr = EAGAIN;
		return -1;
	    }
	    asked++;
	    IocpThreadReap(threadPtr);
	} else if (IocpThreadWait(threadPtr, -1) == -EINTR && chanPtr->recvFirstPtr == NULL) {
	    *errorCodePtr = EINTR;
	    return -1;
	}
    }
}

void
IocpRecvDiscard(IocpChan *chanPtr)
{
    IocpBufFreeChain(chanPtr->threadPtr, chanPtr->recvFirstPtr);
    chanPtr->recvFirstPtr = chanPtr->recvLastPtr = NULL;
    chanPtr->recvCount = 0;
}

/*
 * IocpRecvDetachPool --
 *	The channel leaves its engine: move what lies in the engine's pool into memory of its own.
 */
void
IocpRecvDetachPool(IocpChan *chanPtr)
{
    IocpBuf *bufPtr = chanPtr->recvFirstPtr;

    chanPtr->recvFirstPtr = chanPtr->recvLastPtr = NULL;
    chanPtr->recvCount = 0;
    while (bufPtr != NULL) {
	IocpBuf *nextPtr = bufPtr->nextPtr;

	if (bufPtr->poolId >= 0) {
	    size_t size = bufPtr->end - bufPtr->start;
	    IocpBuf *copyPtr = IocpBufCopy(chanPtr->threadPtr, bufPtr->data + bufPtr->start, size);

	    if (copyPtr == NULL) {
		Tcl_Panic("unable to alloc %lu bytes", (unsigned long)size);
	    }
	    IocpBufFree(chanPtr->threadPtr, bufPtr);
	    bufPtr = copyPtr;
	}
	Append(chanPtr, bufPtr);
	bufPtr = nextPtr;
    }
}
