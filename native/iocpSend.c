/*
 * iocpSend.c --
 *	Sending. A write goes to the kernel at once, since a script may do anything next, and wait
 *	for its effect; or, of a handler among others, when they have been called (iocpDefer.c).
 *	Only what is put off, or what the kernel has no room for, is queued, in at most -sendcap
 *	buffers, and sent by ops (but see IocpSendLast): one vectored send at a time, so that order
 *	is certain.
 *
 *	A forked child has no engine for what it has from its parent: see SendInPlace.
 */

#include "iocpInt.h"

#define DEFER_MAX 8192		/* Larger writes are not worth copying to put them off. */
#define PLACE_PAUSE_MS 20	/* How soon a forked child looks again what the kernel takes. */

const IocpSend iocpNoSend;

/*
 * IocpSendOpen --
 *	Something is to be noted of what the channel sends.
 * Results:
 *	0 if out of memory.
 */
int
IocpSendOpen(IocpChan *chanPtr)
{
    IocpSend *sendPtr;

    if (chanPtr->sendPtr != &iocpNoSend) {
	return 1;
    }
    sendPtr = IocpAlloc(chanPtr->threadPtr, sizeof(IocpSend));
    if (sendPtr == NULL) {
	return 0;
    }
    sendPtr->op = (IocpOp){
	.kind = IOCP_OP_SEND, .ownerPtr = chanPtr, .handlePtr = &chanPtr->handle
    };
    chanPtr->sendPtr = sendPtr;
    return 1;
}

void
IocpSendFree(IocpChan *chanPtr)
{
    if (chanPtr->sendPtr != &iocpNoSend) {
	IocpFree(chanPtr->threadPtr, chanPtr->sendPtr, sizeof(IocpSend));
    }
}

/*
 * IocpSendStart --
 *	Send what is queued, unless a send is in flight already.
 */
void
IocpSendStart(IocpChan *chanPtr)
{
    IocpSend *sendPtr = chanPtr->sendPtr;
    IocpOp *opPtr = &sendPtr->op;

    if (sendPtr->firstPtr == NULL || opPtr->inFlight || sendPtr->filePtr != NULL
	    || chanPtr->waits || chanPtr->sendError != 0
	    || (chanPtr->flags & (IOCP_CHANF_ABORT | IOCP_CHANF_DETACHED))) {
	return;
    }
    IOCP_ASSERT(!sendPtr->deferred);
    opPtr->bufPtr = sendPtr->firstPtr;
    opPtr->bufCount = sendPtr->count < IOCP_VECS_MAX ? sendPtr->count : IOCP_VECS_MAX;
    IocpOpSubmit(chanPtr, opPtr);
}

static void
ShutdownNow(IocpChan *chanPtr)
{
    chanPtr->flags &= ~(unsigned)IOCP_CHANF_SHUT_PENDING;
    IocpSocketShutdown(chanPtr->handle.fd, SHUT_WR);
}

/*
 * Consume --
 *	size bytes are in the kernel.
 */
static void
Consume(IocpChan *chanPtr, size_t size)
{
    IocpSend *sendPtr = chanPtr->sendPtr;

    IOCP_COUNT(chanPtr->threadPtr, bytesSent, size);
    if (size > 0) {
	IocpTimeoutSent(chanPtr);
    }
    while (size > 0) {
	IocpBuf *bufPtr = sendPtr->firstPtr;
	size_t part = bufPtr->end - bufPtr->start;

	if (part > size) {
	    bufPtr->start += size;
	    return;
	}
	size -= part;
	sendPtr->firstPtr = bufPtr->nextPtr;
	if (sendPtr->firstPtr == NULL) {
	    sendPtr->lastPtr = NULL;
	}
	sendPtr->count--;
	IocpBufFree(chanPtr->threadPtr, bufPtr);
    }
}

/*
 * Failed --
 *	Nothing more can be sent. What has arrived can still be read.
 */
static void
Failed(IocpChan *chanPtr, int error)
{
    IocpChanError(chanPtr, error);
    chanPtr->sendError = error;
    chanPtr->sendErrorUntold = 1;
    IocpSendDiscard(chanPtr);
    IocpEventDirty(chanPtr);
}

/*
 * IocpSendPushed --
 *	What was put off is the channel's again; the kernel has taken size bytes of it meanwhile.
 */
void
IocpSendPushed(IocpChan *chanPtr, size_t size, int error)
{
    Consume(chanPtr, size);
    if (error != 0) {
	Failed(chanPtr, error);
    }
    if (size > 0 || error != 0) {
	IocpEventTell(chanPtr);
    }
}

/*
 * IocpSendRetryLater --
 *	The kernel is short of memory for what the channel sends.
 */
void
IocpSendRetryLater(IocpChan *chanPtr)
{
    IOCP_COUNT(chanPtr->threadPtr, sendRetries, 1);
    chanPtr->waits = 1;
    IocpThreadRetryLater(chanPtr->threadPtr);
}

/*
 * IocpSendDone --
 *	A send is complete, perhaps in part.
 */
void
IocpSendDone(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    int error = compPtr->result < 0 ? -compPtr->result : 0;

    switch (error) {
    case 0:
	Consume(chanPtr, (size_t)compPtr->result);
	if (chanPtr->sendPtr->firstPtr != NULL) {
	    IocpEventDirty(chanPtr);
	} else if (chanPtr->flags & IOCP_CHANF_SHUT_PENDING) {
	    ShutdownNow(chanPtr);
	}
	break;
    case ECANCELED:
	return;
    case EINTR:
	IocpEventDirty(chanPtr);
	return;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
	IocpSendRetryLater(chanPtr);
	return;
    default:
	Failed(chanPtr, error);
	break;
    }
    if (IocpChanReady(chanPtr) & chanPtr->watchMask & (error ? ~0 : TCL_WRITABLE)) {
	IocpEventPost(chanPtr);
    }
}

/*
 * Accept --
 *	Take bytes over from Tcl.
 * Results:
 *	1; or 0 if out of memory.
 */
static int
Accept(IocpChan *chanPtr, const char *buf, size_t size)
{
    IocpBuf *bufPtr = IocpSendOpen(chanPtr) ? IocpBufCopy(chanPtr->threadPtr, buf, size) : NULL;
    IocpSend *sendPtr = chanPtr->sendPtr;

    if (bufPtr == NULL) {
	return 0;
    }
    IocpBufAppend(&sendPtr->firstPtr, &sendPtr->lastPtr, bufPtr);
    if (sendPtr->firstPtr == bufPtr) {
	IocpTimeoutWait(chanPtr);
    }
    sendPtr->count++;
    IocpEventDirty(chanPtr);
    return 1;
}

/*
 * Drain --
 *	Wait until at most left buffers are unsent. In a thread that ends, for at most -linger
 *	seconds.
 */
static void
Drain(IocpChan *chanPtr, int left)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    uint64_t end = threadPtr->exiting
	    ? IocpThreadLingerEnd(threadPtr, chanPtr->settingsPtr->lingerSeconds) : UINT64_MAX;

    while (chanPtr->sendPtr->count > left && chanPtr->sendError == 0) {
	if (IocpNow() >= end) {
	    IOCP_COUNT(threadPtr, lingerExpired, 1);
	    IocpChanError(chanPtr, ETIMEDOUT);
	    chanPtr->sendError = ETIMEDOUT;
	    IocpChanAbort(chanPtr);
	    return;
	}
	IocpThreadWait(threadPtr, threadPtr->exiting ? IOCP_EXIT_WAIT : -1);
    }
}

/*
 * SendError --
 *	Whether nothing can be sent any more. As the kernel does it, a reset is told once, and then
 *	that nobody is there.
 */
static int
SendError(IocpChan *chanPtr, int *errorCodePtr)
{
    if (chanPtr->sendError != 0) {
	*errorCodePtr = chanPtr->sendError;
	chanPtr->sendErrorUntold = 0;
	if (chanPtr->sendError == ECONNRESET) {
	    chanPtr->sendError = EPIPE;
	}
	return 1;
    }
    if (chanPtr->flags & (IOCP_CHANF_RESET | IOCP_CHANF_SHUT_WRITE)) {
	*errorCodePtr = EPIPE;
	return 1;
    }
    return 0;
}

/*
 * IocpSendLater --
 *	Whether what a send had for its result, a negative errno, is no fault of the connection: it
 *	can be made later.
 */
int
IocpSendLater(int result)
{
    switch (-result) {
    case EAGAIN:
    case EINTR:
    case ENOBUFS:
    case ENOMEM:
	return 1;
    default:
	return 0;
    }
}

/*
 * Hand --
 *	Hand to the kernel what it takes at once.
 * Results:
 *	How many bytes; 0 if they have to wait; or a negative errno.
 */
static int
Hand(IocpChan *chanPtr, const char *buf, size_t size)
{
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;
    int result = enginePtr->typePtr->sendNowProc(enginePtr, &chanPtr->handle, buf, size);

    if (IocpSendOpen(chanPtr)) {
	chanPtr->sendPtr->told = chanPtr->threadPtr->toldCount;
    }
    return IocpSendLater(result) ? 0 : result;
}

/*
 * SendNow --
 *	Send what the kernel takes at once, if nothing is ahead of it.
 * Results:
 *	How many bytes; 0 if they have to wait. An error is remembered (sendError).
 */
static int
SendNow(IocpChan *chanPtr, const char *buf, int toWrite)
{
    int result;

    if (chanPtr->sendPtr->firstPtr != NULL || chanPtr->sendPtr->filePtr != NULL) {
	return 0;
    }
    result = Hand(chanPtr, buf, (size_t)toWrite);
    if (result < 0) {
	IocpChanError(chanPtr, -result);
	chanPtr->sendError = -result;
	return 0;
    }
    if (result > 0) {
	IOCP_COUNT(chanPtr->threadPtr, bytesSent, result);
	IocpTimeoutSent(chanPtr);
    }
    return result;
}

/*
 * IocpSendLast --
 *	What was put off is the last that is sent, and waits no more. One buffer leaves by itself,
 *	as far as the kernel takes it; several leave as one, with all that others have put off.
 */
void
IocpSendLast(IocpChan *chanPtr)
{
    const IocpBuf *bufPtr;
    int result;

    if (!chanPtr->sendPtr->deferred) {
	return;
    }
    if (chanPtr->sendPtr->count > 1) {
	IocpThreadReap(chanPtr->threadPtr);
	return;
    }
    IocpDeferTake(chanPtr);
    bufPtr = chanPtr->sendPtr->firstPtr;
    if (bufPtr == NULL) {
	return;			/* It has left. */
    }
    result = Hand(chanPtr, bufPtr->data + bufPtr->start, bufPtr->end - bufPtr->start);
    if (result < 0) {
	Failed(chanPtr, -result);
    } else {
	Consume(chanPtr, (size_t)result);
    }
}

/*
 * SendInPlace --
 *	Send in a forked child, where nobody would send the rest later: wait until all is gone,
 *	whatever the channel's mode. While the thread ends, for at most -linger seconds.
 * Results:
 *	toWrite; or -1 and *errorCodePtr.
 */
static int
SendInPlace(IocpChan *chanPtr, const char *buf, int toWrite, int *errorCodePtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    uint64_t end = threadPtr->exiting
	    ? IocpThreadLingerEnd(threadPtr, chanPtr->settingsPtr->lingerSeconds) : UINT64_MAX;
    int sent = 0;

    while (sent < toWrite && !SendError(chanPtr, errorCodePtr)) {
	int part = SendNow(chanPtr, buf + sent, toWrite - sent);

	sent += part;
	if (part == 0 && chanPtr->sendError == 0) {
	    IocpSocketPoll(chanPtr->handle.fd, POLLOUT, PLACE_PAUSE_MS);
	    if (IocpNow() >= end) {
		IocpChanError(chanPtr, ETIMEDOUT);
		chanPtr->sendError = ETIMEDOUT;
	    }
	}
    }
    return sent == toWrite ? toWrite : -1;
}

/*
 * PutOff --
 *	Let a small write of a handler wait for those of others.
 * Results:
 *	0 if it is not to wait.
 */
static int
PutOff(IocpChan *chanPtr, const char *buf, int toWrite)
{
    const IocpSend *sendPtr = chanPtr->sendPtr;

    if (!(chanPtr->flags & IOCP_CHANF_ACCEPTED) || !(chanPtr->flags & IOCP_CHANF_NONBLOCKING)
	    || toWrite > DEFER_MAX
	    || chanPtr->sendError != 0 || sendPtr->filePtr != NULL
	    || (chanPtr->flags & (IOCP_CHANF_RESET | IOCP_CHANF_SHUT_WRITE | IOCP_CHANF_HANDED))
	    || (sendPtr->firstPtr != NULL && !sendPtr->deferred)
	    || sendPtr->count >= chanPtr->settingsPtr->sendCap
	    || !IocpDeferMay(chanPtr)) {
	return 0;
    }
    IocpDeferTake(chanPtr);
    if (chanPtr->sendError != 0 || !Accept(chanPtr, buf, (size_t)toWrite)) {
	return 0;
    }
    IocpDeferAdd(chanPtr);
    return 1;
}

/*
 * IocpSendWrite --
 *	Send, or accept for sending. What is put off, or what the kernel has no room for, waits in
 *	the queue; a blocking channel waits with it.
 * Results:
 *	toWrite; or -1 and *errorCodePtr: EAGAIN when -sendcap buffers are waiting, or the error of
 *	an earlier send.
 */
int
IocpSendWrite(IocpChan *chanPtr, const char *buf, int toWrite, int *errorCodePtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int sendCap = chanPtr->settingsPtr->sendCap;
    int blocking = threadPtr->exiting || !(chanPtr->flags & IOCP_CHANF_NONBLOCKING);
    int sent;

    if (threadPtr->forked) {
	return SendInPlace(chanPtr, buf, toWrite, errorCodePtr);
    }
    if (PutOff(chanPtr, buf, toWrite)) {
	return toWrite;
    }
    if (chanPtr->sendPtr->deferred) {
	IocpThreadReap(threadPtr);	/* What is ahead of it leaves now. */
    }
    if (chanPtr->sendError == 0 && chanPtr->sendPtr->count >= sendCap) {
	if (blocking) {
	    Drain(chanPtr, sendCap - 1);
	} else {
	    IocpThreadReap(threadPtr);
	}
    }
    if (SendError(chanPtr, errorCodePtr)) {
	return -1;
    }
    if (chanPtr->sendPtr->count >= sendCap) {
	*errorCodePtr = EAGAIN;
	return -1;
    }
    IocpStreamSend(chanPtr, toWrite);
    sent = SendNow(chanPtr, buf, toWrite);
    if (sent == toWrite) {
	return toWrite;
    }
    if (SendError(chanPtr, errorCodePtr)) {
	return -1;
    }
    if (!Accept(chanPtr, buf + sent, (size_t)(toWrite - sent))) {
	if (sent > 0) {
	    return sent;
	}
	*errorCodePtr = ENOMEM;
	return -1;
    }
    if (blocking) {
	Drain(chanPtr, 0);
	if (SendError(chanPtr, errorCodePtr)) {
	    return -1;
	}
    }
    return toWrite;
}

void
IocpSendDiscard(IocpChan *chanPtr)
{
    IocpSend *sendPtr = chanPtr->sendPtr;

    if (sendPtr->firstPtr != NULL) {
	IocpBufFreeChain(chanPtr->threadPtr, sendPtr->firstPtr);
	sendPtr->firstPtr = sendPtr->lastPtr = NULL;
	sendPtr->count = 0;
    }
}

/*
 * IocpSendCancel --
 *	Let what is in flight end soon.
 */
void
IocpSendCancel(IocpChan *chanPtr)
{
    if (chanPtr->sendPtr->op.inFlight) {
	IocpOpCancel(chanPtr, &chanPtr->sendPtr->op);
    }
    IocpMoveCancel(chanPtr);
}

/*
 * IocpSendForget --
 *	In a forked child: what is queued, the parent sends.
 */
void
IocpSendForget(IocpChan *chanPtr)
{
    IocpSend *sendPtr = chanPtr->sendPtr;

    if (sendPtr != &iocpNoSend) {
	sendPtr->op.inFlight = 0;
	sendPtr->firstPtr = sendPtr->lastPtr = NULL;
	sendPtr->count = 0;
	sendPtr->deferred = 0;
	sendPtr->filePtr = NULL;
    }
}

/*
 * IocpSendShutdown --
 *	Half-close: the peer sees the end behind what is queued.
 */
void
IocpSendShutdown(IocpChan *chanPtr)
{
    IocpSendLast(chanPtr);
    chanPtr->flags |= IOCP_CHANF_SHUT_WRITE;
    if (chanPtr->state == IOCP_CONNECTING
	    || (chanPtr->sendPtr->firstPtr != NULL && chanPtr->sendError == 0)) {
	chanPtr->flags |= IOCP_CHANF_SHUT_PENDING;
    } else if (chanPtr->state == IOCP_OPEN && chanPtr->sendPtr->firstPtr == NULL) {
	ShutdownNow(chanPtr);
    }
}
