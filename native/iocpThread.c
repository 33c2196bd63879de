/*
 * iocpThread.c --
 *	A Tcl thread's engine: opening and closing it, handing ops to it, reaping them, waiting for
 *	them, and what has to happen when time passes (lingering closes, retries) or the thread
 *	ends.
 */

#include "iocpInt.h"

#define REAP_BATCH 64
#define REAP_ROUNDS 64		/* At most so many batches at once: the event loop must go on. */
#define RETRY_MS 20
#define LINGER_CHECK_MS 250
#define FLUSH_NOTICES 3		/* Tcl flushes its queue, its current buffer, then it closes. */

static IOCP_THREAD_LOCAL IocpThread *currentPtr = NULL;

static Tcl_ExitProc ThreadExit;

static void Finish(IocpThread *threadPtr);

static void
AtProcessExit(void)
{
    IocpDeferPushAll();

    /*
     * Where Tcl is finalized, ThreadExit has done it, and Tcl's channels are no more to be asked.
     */

    if (currentPtr != NULL && !currentPtr->exiting) {
	Finish(currentPtr);
    }
}

/*
 * ForkedChild --
 *	The process is a fork of one that uses the driver, most often on its way to exec: do
 *	nothing here that takes a lock or much time. New interpreters and channels get an engine of
 *	their own.
 */
static void
ForkedChild(void)
{
    if (currentPtr != NULL) {
	for (IocpChan *chanPtr = currentPtr->chansPtr; chanPtr != NULL;
		chanPtr = chanPtr->nextPtr) {
	    IocpChanForked(chanPtr);
	}
	currentPtr->toldPtr = NULL;
	currentPtr = NULL;
    }
    IocpStatsForked();
    IocpDeferForked();
    IocpAcceptForked();
    IocpInheritForked();
    IocpResolveForked();
}

/*
 * IocpThreadForked --
 *	A forked child uses what it has from its parent after all. Its copies of the channels can be
 *	written to, in place, and closed; what the parent has under way, and what arrives, is the
 *	parent's.
 */
void
IocpThreadForked(IocpThread *threadPtr)
{
    IocpEngine *enginePtr = threadPtr->enginePtr;

    if (enginePtr == &iocpNoEngine) {
	return;
    }
    IocpEventUnwatch(threadPtr);
    enginePtr->typePtr->forkedProc(enginePtr);
    threadPtr->enginePtr = &iocpNoEngine;
    threadPtr->deferFirstPtr = NULL;	/* Its mutex may be locked for ever. */
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	IocpChanForget(chanPtr);
    }
}

/*
 * OpenEngine --
 *	Open an engine for the calling thread.
 * Results:
 *	NULL with errno, and in reason a message for the user, if there can be none.
 */
static IocpEngine *
OpenEngine(char *reason, size_t size)
{
    IocpEngine *enginePtr = IocpEngineOpen(reason, size);

    if (enginePtr != NULL && IocpNotifierSelects()
	    && enginePtr->typePtr->notifyFdProc(enginePtr) >= IOCP_NOTIFY_FD_END) {
	snprintf(reason, size, "no descriptor below %d is left for Tcl's notifier to wait on",
		IOCP_NOTIFY_FD_END);
	enginePtr->typePtr->closeProc(enginePtr);
	errno = EMFILE;
	return NULL;
    }
    return enginePtr;
}

/*
 * SetEngine --
 *	The thread's channels get an engine, after they had to do without one.
 */
static void
SetEngine(IocpThread *threadPtr, IocpEngine *enginePtr)
{
    IocpStatsSetEngine(threadPtr, enginePtr);
    if (!threadPtr->exiting) {
	IocpEventWatch(threadPtr);
    }
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	IocpChanAttach(chanPtr);
	IocpEventDirty(chanPtr);
    }
}

static void
ThreadNew(IocpEngine *enginePtr)
{
    static atomic_flag registered = ATOMIC_FLAG_INIT;
    IocpThread *threadPtr = calloc(1, sizeof(IocpThread));

    if (threadPtr == NULL) {
	Tcl_Panic("unable to alloc %lu bytes", (unsigned long)sizeof(IocpThread));
    }
    threadPtr->enginePtr = enginePtr;
    threadPtr->deferMutex = (IocpMutex)IOCP_MUTEX_INIT;
    currentPtr = threadPtr;
    IocpStatsAddThread(threadPtr);
    IocpEventSourceNew(threadPtr);
    Tcl_CreateThreadExitHandler(ThreadExit, threadPtr);

    /*
     * A host that never finalizes Tcl, such as Python, ends by exit(3) alone.
     */

    if (!atomic_flag_test_and_set(&registered)) {
	atexit(AtProcessExit);
	IocpAtFork(ForkedChild);
    }
}

/*
 * IocpThreadGet --
 *	The calling thread's data; made when it is asked for first.
 * Results:
 *	NULL with errno, and in reason a message for the user, if no engine can be opened.
 */
IocpThread *
IocpThreadGet(char *reason, size_t size)
{
    if (currentPtr == NULL || currentPtr->enginePtr == &iocpNoEngine) {
	IocpEngine *enginePtr = OpenEngine(reason, size);

	if (enginePtr == NULL) {
	    return NULL;
	}
	if (currentPtr == NULL) {
	    ThreadNew(enginePtr);
	} else {
	    SetEngine(currentPtr, enginePtr);
	}
    }
    return currentPtr;
}

/*
 * IocpThreadEnter --
 *	The calling thread's data for a channel that comes from another thread, and cannot go back.
 *	If no engine can be opened it has none, and *errorPtr is why; otherwise 0.
 */
IocpThread *
IocpThreadEnter(int *errorPtr)
{
    char reason[256];

    *errorPtr = IocpThreadGet(reason, sizeof(reason)) != NULL ? 0 : errno;
    if (currentPtr == NULL) {
	ThreadNew(&iocpNoEngine);
    }
    return currentPtr;
}

/*
 * IocpThreadRelease --
 *	Close the engine if nobody in the thread needs it any more. The caller does not use
 *	threadPtr again.
 */
void
IocpThreadRelease(IocpThread *threadPtr)
{
    if (threadPtr->chansPtr != NULL || threadPtr->toldPtr != NULL || threadPtr->kept > 0
	    || (!threadPtr->exiting && threadPtr->interpsPtr != NULL)) {
	return;
    }
    if (!threadPtr->exiting) {
	Tcl_DeleteThreadExitHandler(ThreadExit, threadPtr);
	IocpEventSourceFree(threadPtr);
    }
    IocpEventDropQueues(threadPtr);
    IocpStatsRemoveThread(threadPtr);
    threadPtr->enginePtr->typePtr->closeProc(threadPtr->enginePtr);
    if (threadPtr == currentPtr) {
	currentPtr = NULL;
	IocpGuardThreadEnds();
    }
    free(threadPtr);
}

/*
 * IocpThreadIsCurrent --
 *	0 if threadPtr, which was the calling thread's, has been released.
 */
int
IocpThreadIsCurrent(IocpThread *threadPtr)
{
    return threadPtr == currentPtr;
}

/*
 * IocpThreadEnds --
 *	Whether nobody will run the thread's event loop any more, so that what is to be sent in the
 *	background has to be waited for.
 */
int
IocpThreadEnds(IocpThread *threadPtr)
{
    return threadPtr->exiting || threadPtr->orphaned;
}

/*
 * NeedsFlush --
 *	Whether Tcl is to be asked for what it has buffered for a channel. At the end of the last
 *	interpreter with the driver, others may go on with their channels: there, only those that
 *	Tcl flushes in the background.
 */
static int
NeedsFlush(IocpChan *chanPtr, int ends)
{
    return chanPtr->channel != NULL && chanPtr->state == IOCP_OPEN
	    && !(chanPtr->flags & IOCP_CHANF_DRAINED)
	    && (ends || ((chanPtr->watchMask & TCL_WRITABLE)
	    && Tcl_OutputBuffered(chanPtr->channel) > 0));
}

/*
 * FlushTcl --
 *	Let Tcl hand over what it has buffered for channels that are not blocking, as if each were
 *	writable. It would drop it: a peer that does not read could hold the exit up. Here -linger
 *	bounds that. Where the thread ends, no script is told.
 */
static void
FlushTcl(IocpThread *threadPtr, int ends)
{
    size_t count = 0;
    IocpChan *chanPtr, **chanPtrs;

    for (chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	count++;
    }
    chanPtrs = malloc((count + 1) * sizeof(*chanPtrs));
    if (chanPtrs == NULL) {
	return;
    }
    count = 0;
    for (chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	IocpChanRef(chanPtr);
	chanPtrs[count++] = chanPtr;
    }
    for (size_t i = 0; i < count; i++) {
	int notices = NeedsFlush(chanPtrs[i], ends) ? FLUSH_NOTICES : 0;

	if (ends && notices > 0) {
	    Tcl_ClearChannelHandlers(chanPtrs[i]->channel);
	}
	for (; notices > 0 && chanPtrs[i]->channel != NULL; notices--) {
	    Tcl_NotifyChannel(chanPtrs[i]->channel, TCL_WRITABLE);
	}
	IocpChanUnref(chanPtrs[i]);
    }
    free(chanPtrs);
}

/*
 * Finish --
 *	Nobody may run the thread's event loop any more: wait until the kernel has what Tcl and the
 *	channels have to send, for each channel at most -linger seconds from now.
 */
static void
Finish(IocpThread *threadPtr)
{
    int exiting = threadPtr->exiting;

    threadPtr->exitStart = IocpNow();
    if (threadPtr->forked) {
	return;
    }
    threadPtr->kept++;
    threadPtr->exiting = 1;
    IocpCopyStopAll(threadPtr, NULL);
    FlushTcl(threadPtr, !threadPtr->orphaned || exiting);
    IocpThreadDrain(threadPtr);
    threadPtr->exiting = exiting;
    threadPtr->kept--;
}

/*
 * ThreadExit --
 *	The thread ends. Tcl closes its channels after this, so the engine stays until the last one
 *	is gone; from now on writes and closes wait for the kernel to have the bytes.
 */
static void
ThreadExit(void *clientData)
{
    IocpThread *threadPtr = clientData;

    IocpThreadSettle(threadPtr);
    threadPtr->exiting = 1;
    IocpEventSourceFree(threadPtr);
    IocpResolveThreadEnds();
    for (; threadPtr->toldPtr != NULL; threadPtr->toldPtr = threadPtr->toldPtr->outerPtr) {
	if (threadPtr->toldPtr->chanPtr != NULL) {
	    IocpChanUnref(threadPtr->toldPtr->chanPtr);
	}
    }
    Finish(threadPtr);
    IocpThreadRelease(threadPtr);
}

static void
InterpDeleted(void *clientData, Tcl_Interp *interp)
{
    IocpInterp *interpPtr = clientData;
    IocpThread *threadPtr = interpPtr->threadPtr;
    IocpInterp **linkPtr;

    if (threadPtr != currentPtr) {
	free(interpPtr);
	return;
    }
    for (linkPtr = &threadPtr->interpsPtr; *linkPtr != interpPtr; linkPtr = &(*linkPtr)->nextPtr) {
	continue;
    }
    *linkPtr = interpPtr->nextPtr;
    free(interpPtr);
    IocpCopyStopAll(threadPtr, interp);
    if (threadPtr->interpsPtr == NULL) {
	threadPtr->orphaned = 1;
	Finish(threadPtr);

	/*
	 * Other interpreters have channels here, of which nothing was posted meanwhile.
	 */

	for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL;
		chanPtr = chanPtr->nextPtr) {
	    IocpEventTell(chanPtr);
	}
    }
    IocpThreadRelease(threadPtr);
    if (currentPtr == NULL) {
	IocpNotifierRest();
    }
}

/*
 * IocpThreadAddInterp --
 *	The interpreter uses the thread's engine until it is deleted. It may be the one that
 *	listeners from other threads have been waiting for.
 */
void
IocpThreadAddInterp(IocpThread *threadPtr, Tcl_Interp *interp)
{
    IocpInterp *interpPtr;

    if (Tcl_GetAssocData(interp, "iocp::thread", NULL) != NULL) {
	return;
    }
    interpPtr = malloc(sizeof(IocpInterp));
    if (interpPtr == NULL) {
	Tcl_Panic("unable to alloc %lu bytes", (unsigned long)sizeof(IocpInterp));
    }
    *interpPtr = (IocpInterp){interp, threadPtr, threadPtr->interpsPtr};
    threadPtr->interpsPtr = interpPtr;
    threadPtr->orphaned = 0;
    Tcl_SetAssocData(interp, "iocp::thread", InterpDeleted, interpPtr);
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	if (chanPtr->state == IOCP_LISTENING && chanPtr->listenerPtr->firstPtr != NULL) {
	    IocpEventPost(chanPtr);
	}
    }
}

/*
 * IocpOpSubmit --
 *	Hand an op to the engine. It takes a reference to its channel until it is reaped.
 * Results:
 *	1; or 0 if the engine is busy: the channel is on the dirty list and the op is made anew. In
 *	a thread that has none, it is when there is one.
 */
int
IocpOpSubmit(IocpChan *chanPtr, IocpOp *opPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    IOCP_ASSERT(!opPtr->inFlight);
    if (threadPtr->enginePtr == &iocpNoEngine) {
	IocpThreadRetryLater(threadPtr);
	return 0;
    }
    if (threadPtr->enginePtr->typePtr->submitProc(threadPtr->enginePtr, opPtr) == IOCP_BUSY) {
	IocpEventDirty(chanPtr);
	return 0;
    }
    opPtr->inFlight = 1;
    chanPtr->inFlight++;
    IocpChanRef(chanPtr);
    IOCP_COUNT(threadPtr, opsSubmitted, 1);
    return 1;
}

void
IocpOpCancel(IocpChan *chanPtr, IocpOp *opPtr)
{
    opPtr->flags &= ~(unsigned)IOCP_OPF_REPEAT;
    if (opPtr->inFlight) {
	chanPtr->threadPtr->enginePtr->typePtr->cancelProc(chanPtr->threadPtr->enginePtr, opPtr);
    }
}

/*
 * IocpOpStop --
 *	The same for the sake of something else than the connection: what it sends goes on where
 *	breaking it off would be the connection's end.
 */
void
IocpOpStop(IocpChan *chanPtr, IocpOp *opPtr)
{
    if (chanPtr->threadPtr->enginePtr->typePtr->leaveProc == NULL
	    || opPtr->kind == IOCP_OP_WRITE_FILE) {
	IocpOpCancel(chanPtr, opPtr);
    }
}

static void
Complete(IocpThread *threadPtr, const IocpCompletion *compPtr)
{
    IocpOp *opPtr = compPtr->opPtr;
    IocpChan *chanPtr = opPtr->kind == IOCP_OP_ACCEPT
	    ? ((IocpAcceptor *)opPtr->ownerPtr)->chanPtr : opPtr->ownerPtr;
    int last = !(compPtr->flags & IOCP_COMPF_MORE);

    IOCP_COUNT(threadPtr, opsCompleted, 1);
    for (IocpBuf *bufPtr = compPtr->bufPtr; bufPtr != NULL; bufPtr = bufPtr->nextPtr) {
	IOCP_COUNT(threadPtr, buffers, 1);
    }
    if (last) {
	opPtr->inFlight = 0;
	chanPtr->inFlight--;
    }
    switch (opPtr->kind) {
    case IOCP_OP_ACCEPT:
	IocpListenDone(opPtr->ownerPtr, compPtr);
	break;
    case IOCP_OP_CONNECT:
	IocpConnectDone(chanPtr, compPtr);
	break;
    case IOCP_OP_RECV:
	IocpRecvDone(chanPtr, compPtr);
	break;
    case IOCP_OP_SEND:
	if (opPtr != &chanPtr->sendPtr->op) {
	    IocpMoveDone(chanPtr, compPtr);
	    break;
	}
	IocpSendDone(chanPtr, compPtr);
	break;
    case IOCP_OP_SEND_FILE:
    case IOCP_OP_WRITE_FILE:
	IocpMoveDone(chanPtr, compPtr);
	break;
    }
    if (chanPtr->sendPtr->copyPtr != NULL || chanPtr->sourcePtr != NULL) {
	IocpEventDirty(chanPtr);	/* The copy may have waited for that. */
    }
    if (last) {
	IocpChanTryFinish(chanPtr);
	IocpChanUnref(chanPtr);
    }
}

/*
 * IocpThreadReap --
 *	Hand over what is to be submitted and take in what is complete. Never blocks, never runs a
 *	script: what a script is to be told is posted (iocpEvent.c).
 */
void
IocpThreadReap(IocpThread *threadPtr)
{
    IocpEngine *enginePtr = threadPtr->enginePtr;
    IocpCompletion completions[REAP_BATCH];
    int count, rounds = 0;

    IocpEventFlushDirty(threadPtr);
    do {
	count = enginePtr->typePtr->reapProc(enginePtr, completions, REAP_BATCH);
	for (int i = 0; i < count; i++) {
	    Complete(threadPtr, &completions[i]);
	}
    } while (count == REAP_BATCH && ++rounds < REAP_ROUNDS);
}

static void
RetryNow(IocpThread *threadPtr)
{
    char reason[256];

    threadPtr->retryDue = 0;
    if (threadPtr->enginePtr == &iocpNoEngine && IocpThreadGet(reason, sizeof(reason)) == NULL) {
	IocpThreadRetryLater(threadPtr);
	return;
    }
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	if (chanPtr->waits) {
	    chanPtr->waits = 0;
	    IocpEventDirty(chanPtr);
	}
	if (chanPtr->listenerPtr != NULL && chanPtr->listenerPtr->moved) {
	    IocpEventTell(chanPtr);
	}
	IocpChanTellBuffered(chanPtr, 1);
    }
}

/*
 * IocpThreadBusyPoll --
 *	The channel's thread is to look for completions for so long before it sleeps, as long as the
 *	channel is open there; 0: it has no say. Listeners have none: theirs is for what they
 *	accept.
 */
void
IocpThreadBusyPoll(IocpChan *chanPtr, int us)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int64_t ns = us * (int64_t)1000;
    int polls = us > 0 && chanPtr->listenerPtr == NULL;

    threadPtr->busyPollers += polls - chanPtr->busyPolls;
    chanPtr->busyPolls = polls != 0;
    if (threadPtr->busyPollers == 0) {
	threadPtr->busyPollNs = 0;
    } else if (polls && ns > threadPtr->busyPollNs) {
	threadPtr->busyPollNs = ns;
    }
}

/*
 * Spin --
 *	Look for completions, for as long as -busypoll and the time-out (-1: none) say: a thread
 *	that does not sleep need not be woken, which takes many times as long as to answer.
 * Results:
 *	1 if there was one, or what the engine attends to is readable.
 */
static int
Spin(IocpThread *threadPtr, int64_t timeoutNs)
{
    IocpEngine *enginePtr = threadPtr->enginePtr;
    int attending = enginePtr->attending;
    uint64_t completed, end;

    if (threadPtr->busyPollNs == 0 || timeoutNs == 0 || enginePtr == &iocpNoEngine) {
	return 0;
    }
    completed = threadPtr->stats[IOCP_STAT_opsCompleted];
    end = IocpNow() + (uint64_t)(timeoutNs > 0 && timeoutNs < threadPtr->busyPollNs
	    ? timeoutNs : threadPtr->busyPollNs);
    do {
	IocpThreadReap(threadPtr);
	if (threadPtr->stats[IOCP_STAT_opsCompleted] != completed
		|| enginePtr->attending != attending) {
	    return 1;
	}
    } while (IocpNow() < end);
    return 0;
}

/*
 * IocpThreadWait --
 *	The same as IocpThreadReap, but wait first until something is complete: for at most
 *	timeoutNs, for ever if that is negative. May return early. The event source does not run
 *	meanwhile, so what is due is done here.
 * Results:
 *	0, or -EINTR after a signal: a host's handler may want the script to end. Where none can
 *	have run, the process was stopped and goes on, as after ^Z and fg, or when the machine has
 *	slept. Where no signal interrupts anything, a handler of Tcl's that is to be run does the
 *	same: Tcl_CancelEval on another thread leaves one.
 */
int
IocpThreadWait(IocpThread *threadPtr, int64_t timeoutNs)
{
    int64_t dueNs;
    int result;

    IocpThreadTick(threadPtr);
    IocpEventFlushDirty(threadPtr);
    dueNs = IocpThreadDue(threadPtr);
    if (dueNs >= 0 && (timeoutNs < 0 || timeoutNs > dueNs)) {
	timeoutNs = dueNs;
    }
    if (threadPtr->dirty.firstPtr != NULL) {
	timeoutNs = 0;		/* The engine was busy: what we wait for is yet to be submitted. */
    }
    if (Spin(threadPtr, timeoutNs)) {
	return 0;
    }
    if (IOCP_WAIT_MAX > 0 && (timeoutNs < 0 || timeoutNs > IOCP_WAIT_MAX)) {
	timeoutNs = IOCP_WAIT_MAX;
    }
    result = threadPtr->enginePtr->typePtr->waitProc(threadPtr->enginePtr, timeoutNs);
    IocpThreadReap(threadPtr);
    if (IOCP_WAIT_MAX > 0 && Tcl_AsyncReady()) {
	return -EINTR;
    }
    return result == -EINTR && IocpHandlersInterrupt() ? -EINTR : 0;
}

/*
 * IocpThreadHost --
 *	The engine waits for Tcl's whole event loop: for the thread's channels, and until fd,
 *	another descriptor, is readable (-1: none), but no longer than timeoutNs.
 */
IocpHost
IocpThreadHost(int fd, int64_t timeoutNs)
{
    IocpThread *threadPtr = currentPtr;
    IocpEngine *enginePtr = threadPtr == NULL ? NULL : threadPtr->enginePtr;

    if (enginePtr == NULL || enginePtr == &iocpNoEngine) {
	return IOCP_HOST_NO_ENGINE;
    }
    if (fd >= 0 && !enginePtr->attending) {
	enginePtr->typePtr->attendProc(enginePtr, fd);
    }
    IocpThreadWait(threadPtr, timeoutNs);
    return fd >= 0 && !enginePtr->attending ? IOCP_HOST_ATTEND : IOCP_HOST_NOTHING;
}

/*
 * IocpThreadUnattend --
 *	The thread's engine, if it has one, is to forget what it attends to.
 */
void
IocpThreadUnattend(void)
{
    if (currentPtr != NULL) {
	currentPtr->enginePtr->typePtr->attendProc(currentPtr->enginePtr, -1);
    }
}

/*
 * IocpThreadUnwatch --
 *	Tcl's own notifier need not watch the thread's engine any more.
 */
void
IocpThreadUnwatch(void)
{
    if (currentPtr != NULL) {
	IocpEventUnwatch(currentPtr);
    }
}

/*
 * IocpThreadMayDefer --
 *	Whether asking the engine about a channel may wait for the end of the turn: while the
 *	channel's own handler runs, since the loop is then certain to come back, and only while
 *	that is quick. A script that polls without returning to the event loop finds what there is.
 */
int
IocpThreadMayDefer(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    return threadPtr->toldPtr != NULL && threadPtr->toldPtr->chanPtr == chanPtr
	    && !threadPtr->exiting && IocpNow() < threadPtr->toldSince + IOCP_TURN;
}

/*
 * IocpThreadRetryLater --
 *	The kernel is out of memory or descriptors. Channels that wait are tried again soon; in a
 *	forked child there is nothing to be tried.
 */
void
IocpThreadRetryLater(IocpThread *threadPtr)
{
    if (threadPtr->forked) {
	return;
    }
    if (threadPtr->retryDue == 0) {
	threadPtr->retryDue = IocpNow() + RETRY_MS * IOCP_MS;
	IocpEventNudge(threadPtr);
    }
}

/*
 * IocpThreadLingerEnd --
 *	When a channel that closes now gives up. In a thread that ends, Tcl closes one channel
 *	after the other: their time runs from the beginning of the end, so that many slow peers do
 *	not add up.
 */
uint64_t
IocpThreadLingerEnd(IocpThread *threadPtr, int lingerSeconds)
{
    return (threadPtr->exiting ? threadPtr->exitStart : IocpNow())
	    + (uint64_t)lingerSeconds * IOCP_SECOND;
}

/*
 * Expire --
 *	Give up on closed channels whose peers have not taken the rest within their -linger.
 */
static void
Expire(IocpThread *threadPtr)
{
    uint64_t now = IocpNow();
    IocpChan *chanPtr, *nextPtr;

    for (chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = nextPtr) {
	nextPtr = chanPtr->nextPtr;
	if (chanPtr->state == IOCP_CLOSING && !(chanPtr->flags & IOCP_CHANF_ABORT)
		&& now >= chanPtr->lingerEnd) {
	    IOCP_COUNT(threadPtr, lingerExpired, chanPtr->sendPtr->firstPtr != NULL);
	    IocpChanAbort(chanPtr);
	}
    }
}

/*
 * IocpThreadLinger --
 *	See to it that closed channels are given up on in time.
 */
void
IocpThreadLinger(IocpThread *threadPtr)
{
    if (threadPtr->lingerDue == 0 && threadPtr->closingCount > 0) {
	threadPtr->lingerDue = IocpNow() + LINGER_CHECK_MS * IOCP_MS;
    }
}

/*
 * IocpThreadTick --
 *	Do what is due.
 */
void
IocpThreadTick(IocpThread *threadPtr)
{
    uint64_t now;

    if (threadPtr->retryDue == 0 && threadPtr->lingerDue == 0 && threadPtr->timedCount == 0) {
	return;
    }
    now = IocpNow();
    IocpTimeoutTick(threadPtr, now);
    if (threadPtr->retryDue != 0 && now >= threadPtr->retryDue) {
	RetryNow(threadPtr);
    }
    if (threadPtr->lingerDue != 0 && now >= threadPtr->lingerDue) {
	threadPtr->lingerDue = 0;
	Expire(threadPtr);
	IocpThreadLinger(threadPtr);
    }
}

/*
 * IocpThreadDue --
 *	How many nanoseconds there are until something is due; -1 if nothing is.
 */
int64_t
IocpThreadDue(IocpThread *threadPtr)
{
    uint64_t now, due = IocpTimeoutDue(threadPtr);

    if (threadPtr->retryDue != 0 && threadPtr->retryDue < due) {
	due = threadPtr->retryDue;
    }
    if (threadPtr->lingerDue != 0 && threadPtr->lingerDue < due) {
	due = threadPtr->lingerDue;
    }
    if (due == UINT64_MAX) {
	return -1;
    }
    now = IocpNow();
    return due > now ? (int64_t)(due - now) : 0;
}

/*
 * IsClosing --
 *	Whether a closed channel that the host has not drained still has something to do.
 */
static int
IsClosing(IocpThread *threadPtr)
{
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL && threadPtr->closingCount > 0;
	    chanPtr = chanPtr->nextPtr) {
	if (chanPtr->state == IOCP_CLOSING && !(chanPtr->flags & IOCP_CHANF_DRAINED)) {
	    return 1;
	}
    }
    return 0;
}

/*
 * IocpThreadDrain --
 *	Wait for the closed channels that the host has not drained (Iocp_Drain), until each is done
 *	or given up on.
 */
void
IocpThreadDrain(IocpThread *threadPtr)
{
    IocpThreadReap(threadPtr);
    while (IsClosing(threadPtr)) {
	Expire(threadPtr);
	IocpThreadWait(threadPtr, IOCP_EXIT_WAIT);
    }
}

int
Iocp_Drain(int timeoutMs)
{
    IocpThread *threadPtr = currentPtr;
    uint64_t end = IocpNow() + (uint64_t)(timeoutMs < 0 ? 0 : timeoutMs) * IOCP_MS;
    int drained;

    if (threadPtr == NULL) {
	return 1;
    }
    IocpThreadReap(threadPtr);
    while (threadPtr->closingCount > 0 && (timeoutMs < 0 || IocpNow() < end)) {
	Expire(threadPtr);
	IocpThreadWait(threadPtr, timeoutMs < 0 || timeoutMs * (int64_t)IOCP_MS > IOCP_EXIT_WAIT
		? IOCP_EXIT_WAIT : timeoutMs * (int64_t)IOCP_MS);
    }
    drained = threadPtr->closingCount == 0;
    for (IocpChan *chanPtr = threadPtr->chansPtr; chanPtr != NULL; chanPtr = chanPtr->nextPtr) {
	if (chanPtr->state == IOCP_CLOSING || (chanPtr->watchMask & TCL_WRITABLE)) {
	    chanPtr->flags |= IOCP_CHANF_DRAINED;	/* The latter Tcl may be flushing. */
	}
    }
    IocpThreadRelease(threadPtr);
    return drained;
}
