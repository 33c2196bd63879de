/*
 * iocpChan.c --
 *	The channel type "iocp": a connection's or a listener's life, and the procedures that Tcl
 *	calls.
 */

#include "iocpInt.h"

static _Atomic uint64_t nameCounter = 0;

static void
Link(IocpThread *threadPtr, IocpChan *chanPtr)
{
    chanPtr->threadPtr = threadPtr;
    chanPtr->prevPtr = NULL;
    chanPtr->nextPtr = threadPtr->chansPtr;
    if (chanPtr->nextPtr != NULL) {
	chanPtr->nextPtr->prevPtr = chanPtr;
    }
    threadPtr->chansPtr = chanPtr;
}

static void
Unlink(IocpChan *chanPtr)
{
    if (chanPtr->prevPtr != NULL) {
	chanPtr->prevPtr->nextPtr = chanPtr->nextPtr;
    } else {
	chanPtr->threadPtr->chansPtr = chanPtr->nextPtr;
    }
    if (chanPtr->nextPtr != NULL) {
	chanPtr->nextPtr->prevPtr = chanPtr->prevPtr;
    }
}

/*
 * IocpChanNew --
 *	A connection on fd (or on no socket yet), or a listener.
 * Results:
 *	The channel with the one reference that Tcl's channel will hold; NULL if out of memory: fd
 *	still is the caller's.
 */
IocpChan *
IocpChanNew(IocpThread *threadPtr, IocpSocket fd, IocpState state)
{
    IocpChan *chanPtr = IocpAlloc(threadPtr, sizeof(IocpChan));

    if (chanPtr == NULL) {
	return NULL;
    }
    Link(threadPtr, chanPtr);
    chanPtr->state = state;
    chanPtr->refCount = 1;
    chanPtr->handle.fd = fd;
    if (fd != IOCP_NO_SOCKET) {
	threadPtr->enginePtr->typePtr->attachProc(threadPtr->enginePtr, &chanPtr->handle);
    }
    chanPtr->recvOp = (IocpOp){
	.kind = IOCP_OP_RECV, .ownerPtr = chanPtr, .handlePtr = &chanPtr->handle
    };
    chanPtr->sendPtr = (IocpSend *)&iocpNoSend;

    /*
     * A client often has sent its request by the time its connection is accepted.
     */

    chanPtr->flags = IOCP_CHANF_RECV_FULL;
    chanPtr->recvDepth = 1;
    chanPtr->settingsPtr = &iocpDefaultSettings;
    IOCP_COUNT(threadPtr, socketsOpen, 1);
    IOCP_COUNT(threadPtr, channelsOpened, 1);
    return chanPtr;
}

void
IocpChanRef(IocpChan *chanPtr)
{
    chanPtr->refCount++;
}

void
IocpChanUnref(IocpChan *chanPtr)
{
    IOCP_ASSERT(chanPtr->refCount > 0);
    if (--chanPtr->refCount == 0) {
	IOCP_ASSERT(chanPtr->state == IOCP_CLOSED);
	IOCP_ASSERT(chanPtr->inFlight == 0);
	IocpSettingsDrop(chanPtr);
	IocpSendFree(chanPtr);
	IocpFree(chanPtr->threadPtr, chanPtr, sizeof(IocpChan));
    }
}

static void
EachHandle(IocpChan *chanPtr, void (*proc)(IocpEngine *enginePtr, IocpHandle *handlePtr))
{
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;

    if (chanPtr->handle.fd != IOCP_NO_SOCKET) {
	proc(enginePtr, &chanPtr->handle);
    }
    if (chanPtr->listenerPtr != NULL) {
	for (int i = 0; i < chanPtr->listenerPtr->acceptorCount; i++) {
	    proc(enginePtr, &chanPtr->listenerPtr->acceptors[i].handle);
	}
    }
}

/*
 * EachSend --
 *	Do something with what the channel has in flight to be sent, if the engine does that.
 * Results:
 *	With how many ops.
 */
static int
EachSend(IocpChan *chanPtr, void (*proc)(IocpEngine *enginePtr, IocpOp *opPtr))
{
    IocpSend *sendPtr = chanPtr->sendPtr;
    IocpOp *ops[] = {
	&sendPtr->op, sendPtr->filePtr == NULL ? NULL : &sendPtr->filePtr->fileOp.op
    };
    int count = 0;

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && proc != NULL; i++) {
	if (ops[i] != NULL && ops[i]->inFlight && ops[i]->kind != IOCP_OP_WRITE_FILE) {
	    proc(chanPtr->threadPtr->enginePtr, ops[i]);
	    count++;
	}
    }
    return count;
}

/*
 * IocpChanAttach --
 *	The channel's descriptors are about to be used on its thread's engine, which has what it
 *	brings along in flight.
 */
void
IocpChanAttach(IocpChan *chanPtr)
{
    EachHandle(chanPtr, chanPtr->threadPtr->enginePtr->typePtr->attachProc);
    EachSend(chanPtr, chanPtr->threadPtr->enginePtr->typePtr->joinProc);
}

/*
 * TclCloses --
 *	Close handler: Tcl has begun to close the channel. From here on a removal from the thread
 *	(ThreadActionProc) is part of the close, not of a transfer. (Tcl does not call it when it
 *	closes a channel after a background flush; CloseProc copes.)
 */
static void
TclCloses(void *clientData)
{
    ((IocpChan *)clientData)->flags |= IOCP_CHANF_TCL_CLOSING;
}

/*
 * IocpChanCreate --
 *	Give the channel its Tcl side. mode is TCL_READABLE|TCL_WRITABLE, or 0 for a listener.
 * Results:
 *	TCL_OK; or TCL_ERROR with a message in interp (which may be NULL), and the channel is
 *	closed.
 */
int
IocpChanCreate(Tcl_Interp *interp, IocpChan *chanPtr, int mode)
{
    char name[32];

    snprintf(name, sizeof(name), "iocp%llu",
	    (unsigned long long)atomic_fetch_add(&nameCounter, 1) + 1);
    chanPtr->channel = Tcl_CreateChannel(&iocpChannelType, name, chanPtr, mode);
    Tcl_CreateCloseHandler(chanPtr->channel, TclCloses, chanPtr);
    if (mode != 0 && Tcl_SetChannelOption(interp, chanPtr->channel, "-translation", "auto crlf")
	    != TCL_OK) {
	Tcl_Close(NULL, chanPtr->channel);
	return TCL_ERROR;
    }
    return TCL_OK;
}

/*
 * IocpChanReady --
 *	What could be told of the channel: TCL_READABLE, TCL_WRITABLE.
 */
int
IocpChanReady(const IocpChan *chanPtr)
{
    int mask = 0;

    switch (chanPtr->state) {
    case IOCP_FAILED:
	return TCL_READABLE | TCL_WRITABLE;
    case IOCP_LISTENING:
	return chanPtr->listenerPtr->firstPtr != NULL ? TCL_READABLE : 0;
    case IOCP_OPEN:
	if (chanPtr->sourcePtr == NULL && (chanPtr->recvFirstPtr != NULL
		|| (chanPtr->flags & IOCP_CHANF_EOF) || chanPtr->recvError != 0)) {
	    mask |= TCL_READABLE;
	}
	if (chanPtr->sendPtr->count < chanPtr->settingsPtr->sendCap || chanPtr->sendError != 0
		|| (chanPtr->flags & IOCP_CHANF_RESET)) {
	    mask |= TCL_WRITABLE;
	}
	return mask;
    default:
	return 0;
    }
}

/*
 * IocpChanError --
 *	Remember an error of the connection for -error and -errorcode, and count it.
 */
void
IocpChanError(IocpChan *chanPtr, int error)
{
    chanPtr->error = error;
    chanPtr->errorUnread = 1;
    if (error == ECONNRESET) {
	chanPtr->flags |= IOCP_CHANF_RESET;
	IOCP_COUNT(chanPtr->threadPtr, resets, 1);
    }
}

/*
 * IocpChanTryFinish --
 *	Close the descriptor of a closed channel if nothing is in flight and nothing is to be sent.
 */
void
IocpChanTryFinish(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int abort = (chanPtr->flags & IOCP_CHANF_ABORT) || chanPtr->sendError != 0;

    if (chanPtr->state != IOCP_CLOSING || chanPtr->inFlight > 0
	    || (chanPtr->sendPtr->firstPtr != NULL && !abort)) {
	return;
    }
    if (chanPtr->listenerPtr != NULL) {
	IocpListenFree(chanPtr);
    }
    if (chanPtr->handle.fd != IOCP_NO_SOCKET) {
	if (chanPtr->sendPtr->firstPtr != NULL) {
	    struct linger reset = {1, 0};

	    /*
	     * What is missing must not look like the end of the data.
	     */

	    IocpSocketSetopt(chanPtr->handle.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	}
	threadPtr->enginePtr->typePtr->detachProc(threadPtr->enginePtr, &chanPtr->handle);
	IocpSocketClose(chanPtr->handle.fd);
	chanPtr->handle.fd = IOCP_NO_SOCKET;
    }
    IocpSendDiscard(chanPtr);
    IocpConnectFree(chanPtr);
    IocpProxyFree(chanPtr);
    chanPtr->state = IOCP_CLOSED;
    threadPtr->closingCount--;
    IOCP_COUNT(threadPtr, socketsOpen, -1);
    Unlink(chanPtr);
    IocpChanUnref(chanPtr);
}

/*
 * IocpChanForked --
 *	The process is a forked child. What Tcl has in its buffers is the parent's to send: it is
 *	to be dropped when the child's Tcl hands its copy over. (What a transform makes of its bytes
 *	cannot be told from the child's own.)
 */
void
IocpChanForked(IocpChan *chanPtr)
{
    if (chanPtr->channel != NULL && Tcl_GetTopChannel(chanPtr->channel) == chanPtr->channel) {
	chanPtr->forkStale = (int)Tcl_OutputBuffered(chanPtr->channel);
    }
}

/*
 * IocpChanForget --
 *	In a forked child: no op is in flight, and what is unsent is the parent's to send.
 */
void
IocpChanForget(IocpChan *chanPtr)
{
    chanPtr->inFlight = chanPtr->recvOp.inFlight = 0;
    IocpTimeoutForget(chanPtr);
    IocpMoveForget(chanPtr);
    IocpSendForget(chanPtr);
    if (chanPtr->connectPtr != NULL) {
	chanPtr->connectPtr->connectOp.op.inFlight = 0;
    }
    if (chanPtr->listenerPtr != NULL) {
	for (int i = 0; i < chanPtr->listenerPtr->acceptorCount; i++) {
	    chanPtr->listenerPtr->acceptors[i].op.inFlight = 0;
	}
    }
}

static void
CancelOthers(IocpChan *chanPtr)
{
    IocpOpCancel(chanPtr, &chanPtr->recvOp);
    if (chanPtr->connectPtr != NULL) {
	IocpOpCancel(chanPtr, &chanPtr->connectPtr->connectOp.op);
    }
    if (chanPtr->listenerPtr != NULL) {
	for (int i = 0; i < chanPtr->listenerPtr->acceptorCount; i++) {
	    IocpOpCancel(chanPtr, &chanPtr->listenerPtr->acceptors[i].op);
	}
    }
}

/*
 * IocpChanAbort --
 *	Give up what a closed channel still has to send.
 */
void
IocpChanAbort(IocpChan *chanPtr)
{
    chanPtr->flags |= IOCP_CHANF_ABORT;
    IocpSendCancel(chanPtr);
    CancelOthers(chanPtr);
    IocpEventDirty(chanPtr);
}

/*
 * IocpChanClose --
 *	Tcl is done with the channel. What was accepted for sending goes out in the background, for
 *	at most -linger seconds; then the peer sees the end.
 * Results:
 *	0, or the errno of a failed send that no write has told yet.
 */
int
IocpChanClose(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int error, sending;

    IocpSendLast(chanPtr);	/* Nobody else tells the peer of the end. */
    error = chanPtr->sendErrorUntold ? chanPtr->sendError : 0;
    sending = chanPtr->sendPtr->firstPtr != NULL && chanPtr->state == IOCP_OPEN;
    IocpChanRef(chanPtr);
    IocpCopyStop(chanPtr);
    IocpNameDrop(chanPtr);
    chanPtr->channel = NULL;
    chanPtr->watchMask = 0;
    chanPtr->state = IOCP_CLOSING;
    IocpThreadBusyPoll(chanPtr, 0);
    IocpTimeoutForget(chanPtr);
    chanPtr->lingerEnd = IocpThreadLingerEnd(threadPtr, chanPtr->settingsPtr->lingerSeconds);
    threadPtr->closingCount++;
    IOCP_COUNT(threadPtr, opsOrphaned, chanPtr->inFlight);
    IocpRecvDiscard(chanPtr);
    IocpOpCancel(chanPtr, &chanPtr->recvOp);
    if (chanPtr->connectPtr != NULL) {
	IocpOpCancel(chanPtr, &chanPtr->connectPtr->connectOp.op);
    }
    if (sending) {
	IocpEventDirty(chanPtr);
    }

    /*
     * A port is free for the next listener as soon as the close returns.
     */

    if (chanPtr->listenerPtr != NULL) {
	IocpListenClose(chanPtr);
	CancelOthers(chanPtr);
	while (chanPtr->inFlight > 0) {
	    IocpThreadWait(threadPtr, -1);
	}
    }
    IocpChanTryFinish(chanPtr);
    if (threadPtr->closingCount > 0 && IocpThreadEnds(threadPtr)) {
	IocpThreadDrain(threadPtr);	/* A listener may have dropped others. */
    } else if (chanPtr->state == IOCP_CLOSING) {
	IocpThreadReap(threadPtr);	/* Submits what is left to send, and cancels. */
	IocpThreadReap(threadPtr);
	if (chanPtr->state == IOCP_CLOSING && !sending) {
	    /* The engine takes its time for a cancel, and nobody may wait for it. */
	    IocpSocketShutdown(chanPtr->handle.fd, SHUT_WR);
	}
	IocpThreadLinger(threadPtr);
    }
    IocpChanUnref(chanPtr);
    IocpThreadRelease(threadPtr);
    return error;
}

/*
 * IocpChanDrop --
 *	Close a connection that Tcl has never known, and that has nothing to send. May be called
 *	while completions are taken in.
 */
void
IocpChanDrop(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    IocpTimeoutForget(chanPtr);
    chanPtr->state = IOCP_CLOSING;
    chanPtr->lingerEnd = IocpNow();
    threadPtr->closingCount++;
    IOCP_COUNT(threadPtr, opsOrphaned, chanPtr->inFlight);
    IocpRecvDiscard(chanPtr);
    IocpOpCancel(chanPtr, &chanPtr->recvOp);
    IocpChanTryFinish(chanPtr);
}

static int
InputProc(void *instanceData, char *buf, int toRead, int *errorCodePtr)
{
    IocpChan *chanPtr = instanceData;

    IocpThreadSettle(chanPtr->threadPtr);
    if (chanPtr->threadPtr->forked) {
	*errorCodePtr = ENOTCONN;	/* What arrives is the parent's to read. */
	return -1;
    }
    if (chanPtr->state != IOCP_OPEN && IocpConnectWait(chanPtr, errorCodePtr) < 0) {
	return -1;
    }
    if (chanPtr->sourcePtr != NULL) {
	*errorCodePtr = EAGAIN;	/* What arrives is the copy's. */
	return -1;
    }
    return IocpRecvRead(chanPtr, buf, toRead, errorCodePtr);
}

static int
OutputProc(void *instanceData, const char *buf, int toWrite, int *errorCodePtr)
{
    IocpChan *chanPtr = instanceData;

    if (toWrite == 0) {
	return 0;
    }
    IocpThreadSettle(chanPtr->threadPtr);
    if (chanPtr->forkStale > 0) {
	int dropped = toWrite < chanPtr->forkStale ? toWrite : chanPtr->forkStale;

	chanPtr->forkStale -= dropped;
	return dropped;
    }
    if (chanPtr->state != IOCP_OPEN && IocpConnectWait(chanPtr, errorCodePtr) < 0) {
	return -1;
    }
    return IocpSendWrite(chanPtr, buf, toWrite, errorCodePtr);
}

/*
 * IocpChanTellBuffered --
 *	Tcl itself tells of input that it has in its buffers, with a timer, and does not ask for
 *	TCL_READABLE meanwhile. Tcl 8.6 deletes that timer when a channel goes to another thread,
 *	believes that it still runs, and never makes another. So what it has in its buffers is told
 *	here: at once if it is another amount than has been told last; otherwise nobody may want to
 *	know, and it is told again later.
 */
void
IocpChanTellBuffered(IocpChan *chanPtr, int again)
{
    int held;

    if (TCL_MAJOR_VERSION > 8 || !(chanPtr->flags & IOCP_CHANF_MOVED) || chanPtr->channel == NULL
	    || (chanPtr->watchMask & TCL_READABLE)) {
	return;
    }
    held = Tcl_InputBuffered(chanPtr->channel);
    if (held > 0 && (held != chanPtr->heldTold || again)) {
	chanPtr->heldTold = held;
	chanPtr->flags |= IOCP_CHANF_TCL_HOLDS;
	IocpEventPost(chanPtr);
    } else if (held > 0) {
	IocpThreadRetryLater(chanPtr->threadPtr);
    }
}

static void
WatchProc(void *instanceData, int mask)
{
    IocpChan *chanPtr = instanceData;

    /*
     * A listener tells its accept procedure, never a script. And a handler that has transferred its
     * channel has Tcl call this once more in the thread that it has left.
     */

    if (chanPtr->listenerPtr != NULL || !IocpThreadIsCurrent(chanPtr->threadPtr)) {
	return;
    }
    if (mask & ~chanPtr->watchMask & TCL_READABLE) {
	IocpTimeoutWait(chanPtr);
    } else if (!(mask & TCL_READABLE) && (chanPtr->recvOp.flags & IOCP_OPF_REPEAT)
	    && !(chanPtr->flags & IOCP_CHANF_TCL_CLOSING)
	    && Tcl_InputBuffered(chanPtr->channel) == 0) {
	/*
	 * It is not that Tcl tells of what it has itself. Perhaps a child is to read the rest.
	 */
	IocpRecvEndRepeat(chanPtr);
    }
    chanPtr->watchMask = (unsigned char)mask;
    if (!IocpEventTells(chanPtr)) {
	IocpNameForget(chanPtr->namePtr);
    }
    if (chanPtr->sendPtr->copyPtr != NULL) {
	IocpEventDirty(chanPtr);	/* Tcl may have written what the copy waits for. */
    }
    IocpEventTell(chanPtr);
    if ((mask & TCL_READABLE) && !chanPtr->recvOp.inFlight && chanPtr->recvFirstPtr == NULL
	    && !(chanPtr->flags & IOCP_CHANF_EOF)) {
	IocpEventDirtySoon(chanPtr);
    }
    IocpChanTellBuffered(chanPtr, 0);
}

static int
BlockModeProc(void *instanceData, int mode)
{
    IocpChan *chanPtr = instanceData;

    if (mode == TCL_MODE_NONBLOCKING) {
	chanPtr->flags |= IOCP_CHANF_NONBLOCKING;
    } else {
	chanPtr->flags &= ~(unsigned)IOCP_CHANF_NONBLOCKING;
    }
    return 0;
}

/*
 * GetHandleProc --
 *	Who asks for the descriptor may write to it, as a child of exec does: what the script has
 *	written before comes first. (exec asks, flushes, and starts the child.)
 */
static int
GetHandleProc(void *instanceData, int direction, void **handlePtr)
{
    IocpChan *chanPtr = instanceData;
    IocpSocket fd = chanPtr->listenerPtr != NULL
	    ? chanPtr->listenerPtr->acceptors[0].handle.fd : chanPtr->handle.fd;

    (void)direction;
    if (fd == IOCP_NO_SOCKET) {
	return TCL_ERROR;
    }
    chanPtr->flags |= IOCP_CHANF_HANDED;
    if (chanPtr->threadPtr != NULL) {
	IocpThreadSettle(chanPtr->threadPtr);
	IocpSendLast(chanPtr);
    }
    *handlePtr = (void *)(intptr_t)fd;
    return TCL_OK;
}

/*
 * Leave --
 *	The channel leaves its thread: the engine must have let go of it before. Bytes received so
 *	far go with it, in memory of their own; what is unsent goes along too, even in flight, if
 *	the engine cannot cancel that.
 */
static void
Leave(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    const IocpEngineType *typePtr = threadPtr->enginePtr->typePtr;
    int along = 0;

    IocpCopyStop(chanPtr);
    IocpNameDrop(chanPtr);
    chanPtr->flags |= IOCP_CHANF_DETACHED;
    IocpConnectLeave(chanPtr);
    IocpThreadBusyPoll(chanPtr, 0);
    IocpTimeoutForget(chanPtr);
    if (chanPtr->listenerPtr != NULL) {
	IocpListenLeave(chanPtr);
    }
    IocpStreamEnd(chanPtr);
    IocpDeferTake(chanPtr);
    CancelOthers(chanPtr);
    if (typePtr->leaveProc == NULL) {
	IocpSendCancel(chanPtr);
    } else {
	IocpThreadReap(threadPtr);
	along = EachSend(chanPtr, typePtr->leaveProc);
    }
    while (chanPtr->inFlight > along) {
	IocpThreadWait(threadPtr, -1);
    }
    IocpEventForget(chanPtr);
    IocpRecvDetachPool(chanPtr);
    EachHandle(chanPtr, typePtr->detachProc);
    for (IocpTold *toldPtr = threadPtr->toldPtr; toldPtr != NULL; toldPtr = toldPtr->outerPtr) {
	if (toldPtr->chanPtr == chanPtr) {
	    toldPtr->chanPtr = NULL;
	    IocpChanUnref(chanPtr);
	}
    }
    Unlink(chanPtr);
    chanPtr->threadPtr = NULL;
    IocpThreadRelease(threadPtr);
}

/*
 * Strand --
 *	No engine can be opened in the thread that a connection has come to. What it has received
 *	can be read; then reads and writes fail, and the peer of unsent bytes sees a reset. (A
 *	listener waits for better times: see IocpOpSubmit.)
 */
static void
Strand(IocpChan *chanPtr, int error)
{
    if (chanPtr->state == IOCP_CONNECTING) {
	IocpConnectFail(chanPtr, error);
    } else if (chanPtr->state == IOCP_OPEN) {
	IocpChanError(chanPtr, error);
	chanPtr->recvError = (chanPtr->flags & IOCP_CHANF_EOF) ? 0 : error;
	chanPtr->sendError = error;
	chanPtr->sendErrorUntold = 1;
    }
}

/*
 * Join --
 *	The channel enters the calling thread, which may never have heard of the driver.
 */
static void
Join(IocpChan *chanPtr)
{
    int error;
    IocpThread *threadPtr = IocpThreadEnter(&error);

    chanPtr->flags &= ~(unsigned)IOCP_CHANF_DETACHED;
    chanPtr->flags |= IOCP_CHANF_MOVED;
    chanPtr->heldTold = -1;
    chanPtr->waits = 0;
    Link(threadPtr, chanPtr);
    IocpThreadBusyPoll(chanPtr, chanPtr->settingsPtr->busyPollUs);
    IocpChanAttach(chanPtr);
    if (chanPtr->listenerPtr != NULL) {
	chanPtr->listenerPtr->moved = 1;
    }
    if (error == 0 && !IocpTimeoutWatch(chanPtr)) {
	error = ENOMEM;
    }
    if (error != 0) {
	Strand(chanPtr, error);
    } else if (chanPtr->state == IOCP_CONNECTING) {
	IocpConnectAgain(chanPtr);
    }
    IocpEventDirty(chanPtr);

    /*
     * Tcl does not ask again for what a background flush needs.
     */

    if (Tcl_OutputBuffered(chanPtr->channel) > 0) {
	chanPtr->watchMask |= TCL_WRITABLE;
    }
    IocpEventTell(chanPtr);
}

static void
ThreadActionProc(void *instanceData, int action)
{
    IocpChan *chanPtr = instanceData;

    if (action == TCL_CHANNEL_THREAD_INSERT) {
	if (chanPtr->flags & IOCP_CHANF_DETACHED) {
	    Join(chanPtr);
	}
    } else if (!(chanPtr->flags & IOCP_CHANF_TCL_CLOSING) && !chanPtr->threadPtr->exiting
	    && !chanPtr->threadPtr->forked) {
	Leave(chanPtr);
    }
}

/*
 * CloseProc --
 *	Close the channel, or one side of it.
 */
static int
CloseProc(void *instanceData, Tcl_Interp *interp, int flags)
{
    IocpChan *chanPtr = instanceData;

    (void)interp;
    if (chanPtr->threadPtr != NULL) {
	IocpThreadSettle(chanPtr->threadPtr);
    }
    if ((flags & (TCL_CLOSE_READ | TCL_CLOSE_WRITE)) == 0) {
	if (chanPtr->flags & IOCP_CHANF_DETACHED) {
	    Join(chanPtr);	/* Tcl took it from the thread only to close it. */
	}
	return IocpChanClose(chanPtr);
    }

    /*
     * At the beginning of a close, Tcl closes the read side, for drivers that need it.
     */

    if ((flags & TCL_CLOSE_READ) && !(chanPtr->flags & IOCP_CHANF_TCL_CLOSING)) {
	IocpMoveReadEnds(chanPtr);
	IocpRecvDiscard(chanPtr);
	chanPtr->flags |= IOCP_CHANF_EOF;
	IocpEventTell(chanPtr);	/* An fcopy goes on with it, and has to find the end. */
	if (chanPtr->state == IOCP_OPEN && IocpSocketShutdown(chanPtr->handle.fd, SHUT_RD) < 0) {
	    return errno;
	}
    }
    if (flags & TCL_CLOSE_WRITE) {
	IocpSendShutdown(chanPtr);
    }
    return 0;
}

const Tcl_ChannelType iocpChannelType = {
    "iocp",
    TCL_CHANNEL_VERSION_5,
    TCL_CLOSE2PROC,		/* close: CloseProc does both */
    InputProc,
    OutputProc,
    NULL,			/* seek */
    IocpSetOption,
    IocpGetOption,
    WatchProc,
    GetHandleProc,
    CloseProc,
    BlockModeProc,
    NULL,			/* flush */
    NULL,			/* handler */
    NULL,			/* wide seek */
    ThreadActionProc,
    NULL			/* truncate */
};

/*
 * IocpChanOf --
 *	The driver's channel that a channel of Tcl is, or NULL.
 */
IocpChan *
IocpChanOf(Tcl_Channel channel)
{
    return Tcl_GetChannelType(channel) == &iocpChannelType ? Tcl_GetChannelInstanceData(channel)
	    : NULL;
}
