/*
 * iocpEvent.c --
 *	Between completions and Tcl's event loop: the event source, the events, and the two lists
 *	that gather work over a turn of the loop (dirty: ops to submit; ready: channels to tell of).
 *
 * A turn:
 *
 *	1. SetupProc submits what is dirty, reaps, arms the engine's descriptor; Tcl waits.
 *	2. CheckProc reaps. Each channel with something to tell gets one event in Tcl's queue;
 *	   behind the first of them goes a sweep event.
 *	3. The events run the scripts' handlers. The receives that these make due gather on the
 *	   dirty list.
 *	4. The sweep submits all of them in one system call and reaps. If that made new events, it
 *	   goes to the queue again behind them; Tcl's notifier, which costs thread switches, is not
 *	   asked.
 *
 * Tcl serves its queue before timers, idle callbacks and files. So a turn lasts at most IOCP_TURN;
 * then channels that are ready wait on the ready list until the notifier has been asked, and
 * everybody else gets their chance. A turn begins with TELL_MAX of them: for each whose handler
 * reads one line of several, Tcl makes a timer, and walks the list of its timers to do so. Before
 * them come LISTENERS_MAX listeners, each with one connection: who connects does not wait until all
 * others have been told.
 *
 * Tcl runs idle callbacks when a pass of its notifier has brought nothing at all; a descriptor of
 * the core's that stays readable starves them for ever. Here the sweep has a callback of its own
 * wait among them when IDLE_NS have passed, and makes all of them run if that one has not been
 * called after as long a time again. Not earlier: scripts count on the order.
 *
 * A loop that is not Tcl's (Tcl_ServiceAll) asks the event source only when a descriptor or a timer
 * says so. So what ends a turn, CheckProc, the last sweep or the last event, leaves the engine's
 * descriptor armed, and what is to be done yet in Tcl's block time.
 *
 * Events are level-triggered: Tcl calls the watch procedure after each notification, which posts
 * again as long as the channel is ready for what is watched.
 */

#include "iocpInt.h"

#define IDLE_NS 20000000u
#define SETUP_ROUNDS 4		/* So often ops that completions make are submitted at once. */
#define DIRTY_MAX 64		/* So many channels' ops are worth a system call of their own. */
#define TELL_MAX 64		/* So many channels are told of between two looks at the timers. */
#define LISTENERS_MAX 8

typedef struct ChanEvent {
    Tcl_Event header;		/* Must be first. */
    IocpChan *chanPtr;		/* Holds a reference: the channel may close meanwhile. */
} ChanEvent;

typedef struct SweepEvent {
    Tcl_Event header;		/* Must be first. */
    IocpThread *threadPtr;
} SweepEvent;

static Tcl_EventProc ChanEventProc;
static Tcl_EventProc SweepEventProc;

/*
 * Where a channel has its link in each of its thread's queues.
 */
typedef IocpChan **LinkProc(IocpChan *chanPtr);

static inline IocpChan **
DirtyLink(IocpChan *chanPtr)
{
    return &chanPtr->dirtyNextPtr;
}

static inline IocpChan **
ReadyLink(IocpChan *chanPtr)
{
    return &chanPtr->readyNextPtr;
}

static inline IocpChan **
StreamLink(IocpChan *chanPtr)
{
    return &chanPtr->sendPtr->streamNextPtr;
}

/*
 * QueuePush, QueuePop --
 *	A channel in a queue holds a reference to itself, which QueuePop hands to its caller.
 */
static void
QueuePush(IocpQueue *queuePtr, IocpChan *chanPtr, LinkProc *linkProc)
{
    if (*linkProc(chanPtr) != NULL) {
	return;
    }
    *linkProc(chanPtr) = chanPtr;
    if (queuePtr->lastPtr != NULL) {
	*linkProc(queuePtr->lastPtr) = chanPtr;
    } else {
	queuePtr->firstPtr = chanPtr;
    }
    queuePtr->lastPtr = chanPtr;
    IocpChanRef(chanPtr);
}

static IocpChan *
QueuePop(IocpQueue *queuePtr, LinkProc *linkProc)
{
    IocpChan *chanPtr = queuePtr->firstPtr;

    if (chanPtr == NULL) {
	return NULL;
    }
    if (chanPtr == queuePtr->lastPtr) {
	*queuePtr = (IocpQueue){NULL, NULL};
    } else {
	queuePtr->firstPtr = *linkProc(chanPtr);
    }
    *linkProc(chanPtr) = NULL;
    return chanPtr;
}

static void
QueueRemove(IocpQueue *queuePtr, IocpChan *chanPtr, LinkProc *linkProc)
{
    IocpQueue kept = {NULL, NULL};
    IocpChan *otherPtr;

    while ((otherPtr = QueuePop(queuePtr, linkProc)) != NULL) {
	if (otherPtr != chanPtr) {
	    QueuePush(&kept, otherPtr, linkProc);
	}
	IocpChanUnref(otherPtr);
    }
    *queuePtr = kept;
}

static void
QueueChanEvent(IocpThread *threadPtr, IocpChan *chanPtr)
{
    ChanEvent *eventPtr = (ChanEvent *)Tcl_Alloc(sizeof(ChanEvent));

    eventPtr->header.proc = ChanEventProc;
    eventPtr->chanPtr = chanPtr;
    chanPtr->eventQueued = 1;
    threadPtr->eventsWaiting++;
    IocpChanRef(chanPtr);
    IOCP_COUNT(threadPtr, eventsQueued, 1);
    Tcl_QueueEvent(&eventPtr->header, TCL_QUEUE_TAIL);
}

static void
QueueSweep(IocpThread *threadPtr)
{
    if (!threadPtr->sweepQueued) {
	SweepEvent *eventPtr = (SweepEvent *)Tcl_Alloc(sizeof(SweepEvent));

	eventPtr->header.proc = SweepEventProc;
	eventPtr->threadPtr = threadPtr;
	threadPtr->sweepQueued = 1;
	Tcl_QueueEvent(&eventPtr->header, TCL_QUEUE_TAIL);
    }
}

static IocpQueue *
ReadyQueue(IocpChan *chanPtr)
{
    return chanPtr->listenerPtr != NULL ? &chanPtr->threadPtr->readyListeners
	    : &chanPtr->threadPtr->ready;
}

/*
 * IocpEventNudge --
 *	There is something to be done that SetupProc does, or something to be waited for that it
 *	tells Tcl of. Tcl's own event loop asks it before each wait; one that is not Tcl's, and
 *	waits by itself, calls Tcl when it is told to. The procedures of the event source say how
 *	long Tcl may wait when they are done.
 */
void
IocpEventNudge(IocpThread *threadPtr)
{
    static const Tcl_Time now = {0, 0};

    if (!threadPtr->serving && threadPtr->toldPtr == NULL && !threadPtr->exiting
	    && IocpThreadIsCurrent(threadPtr) && !IocpNotifierHosts()) {
	Tcl_SetMaxBlockTime(&now);
    }
}

/*
 * IocpEventPost --
 *	The channel has something to tell that is watched for: make an event of it, now or when the
 *	notifier has been asked again. A listener always waits for that: between two connections,
 *	timers and files get their turn.
 */
void
IocpEventPost(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    if (chanPtr->eventQueued || threadPtr->exiting) {
	return;
    }
    if (chanPtr->listenerPtr == NULL && threadPtr->turnEnd != 0
	    && IocpNow() < threadPtr->turnEnd) {
	QueueChanEvent(threadPtr, chanPtr);
	QueueSweep(threadPtr);
    } else {
	QueuePush(ReadyQueue(chanPtr), chanPtr, ReadyLink);
	if (chanPtr->listenerPtr != NULL) {
	    threadPtr->turnEnd = 0;	/* Nor does it wait for longer than it must. */
	}
    }
    IocpEventNudge(threadPtr);
}

/*
 * IocpEventTell --
 *	Post, if the channel is ready for something that is watched for. (Whether anybody takes a
 *	listener's connections, Tcl does not know.)
 */
void
IocpEventTell(IocpChan *chanPtr)
{
    if (IocpChanReady(chanPtr) & (chanPtr->listenerPtr != NULL ? TCL_READABLE
	    : chanPtr->watchMask)) {
	IocpEventPost(chanPtr);
    }
}

/*
 * IocpEventDirty --
 *	The channel may have ops to submit when the turn ends.
 */
void
IocpEventDirty(IocpChan *chanPtr)
{
    chanPtr->threadPtr->dirtyCount += (chanPtr->dirtyNextPtr == NULL);
    QueuePush(&chanPtr->threadPtr->dirty, chanPtr, DirtyLink);
    IocpEventNudge(chanPtr->threadPtr);
}

/*
 * IocpEventDirtySoon --
 *	The same, in this turn: a handler of the core's, as the file's that fcopy writes to, would
 *	otherwise end one without a sweep, and what is to be submitted would take another pass.
 */
void
IocpEventDirtySoon(IocpChan *chanPtr)
{
    IocpEventDirty(chanPtr);
    if (chanPtr->threadPtr->turnEnd != 0) {
	QueueSweep(chanPtr->threadPtr);
    }
}

/*
 * IocpEventStream --
 *	The channel has a stream (iocpStream.c): the next pass of the loop is to look at it.
 */
void
IocpEventStream(IocpChan *chanPtr)
{
    QueuePush(&chanPtr->threadPtr->streams, chanPtr, StreamLink);
    IocpEventNudge(chanPtr->threadPtr);
}

static void
CheckStreams(IocpThread *threadPtr)
{
    IocpQueue queue = threadPtr->streams;
    IocpChan *chanPtr;

    threadPtr->passCount++;
    threadPtr->streams = (IocpQueue){NULL, NULL};
    while ((chanPtr = QueuePop(&queue, StreamLink)) != NULL) {
	IocpStreamCheck(chanPtr);
	IocpChanUnref(chanPtr);
    }
}

/*
 * IocpEventFlushDirty --
 *	Submit what the channels have gathered. A channel that finds the engine busy is dirty
 *	again, for the next time; hence the list is taken over before.
 */
void
IocpEventFlushDirty(IocpThread *threadPtr)
{
    IocpQueue queue;
    IocpChan *chanPtr;

    IocpDeferTakeAll(threadPtr);
    queue = threadPtr->dirty;
    threadPtr->dirty = (IocpQueue){NULL, NULL};
    threadPtr->dirtyCount = 0;
    while ((chanPtr = QueuePop(&queue, DirtyLink)) != NULL) {
	if (chanPtr->listenerPtr != NULL) {
	    IocpListenArm(chanPtr);
	} else {
	    IocpConnectStart(chanPtr);
	    IocpSendStart(chanPtr);
	    IocpMoveStart(chanPtr);
	    IocpRecvArm(chanPtr);
	}
	IocpChanTryFinish(chanPtr);
	IocpChanUnref(chanPtr);
    }
}

/*
 * TakeEvent --
 *	An event is called, or deleted. Its reference is the caller's.
 */
static IocpChan *
TakeEvent(Tcl_Event *eventPtr)
{
    IocpChan *chanPtr = ((ChanEvent *)eventPtr)->chanPtr;

    chanPtr->eventQueued = 0;
    chanPtr->threadPtr->eventsWaiting--;
    return chanPtr;
}

static int
IsEventOf(Tcl_Event *eventPtr, void *clientData)
{
    if (eventPtr->proc != ChanEventProc || ((ChanEvent *)eventPtr)->chanPtr != clientData) {
	return 0;
    }
    IocpChanUnref(TakeEvent(eventPtr));
    return 1;
}

/*
 * IocpEventForget --
 *	The channel leaves the thread: nothing of it may remain in the thread's queues.
 */
void
IocpEventForget(IocpChan *chanPtr)
{
    IocpChanRef(chanPtr);
    QueueRemove(&chanPtr->threadPtr->dirty, chanPtr, DirtyLink);
    QueueRemove(ReadyQueue(chanPtr), chanPtr, ReadyLink);
    QueueRemove(&chanPtr->threadPtr->streams, chanPtr, StreamLink);
    Tcl_DeleteEvents(IsEventOf, chanPtr);
    IocpChanUnref(chanPtr);
}

/*
 * Tell --
 *	Tell Tcl of the channel, if there still is something that it watches for. The first thing
 *	that is told of a client, alone, is that it may write: handlers that wait for the connection
 *	want to be called before those that read from it.
 */
static void
Tell(IocpChan *chanPtr)
{
    int mask = IocpChanReady(chanPtr) & chanPtr->watchMask;

    if ((chanPtr->flags & IOCP_CHANF_CONNECTED) && (mask & TCL_WRITABLE)) {
	chanPtr->flags &= ~(unsigned)IOCP_CHANF_CONNECTED;
	mask = TCL_WRITABLE;
    }
    if (chanPtr->flags & IOCP_CHANF_TCL_HOLDS) {
	chanPtr->flags &= ~(unsigned)IOCP_CHANF_TCL_HOLDS;
	mask |= TCL_READABLE;
    }
    if (chanPtr->listenerPtr != NULL) {
	IocpListenDeliver(chanPtr);
    } else if (mask != 0) {
	Tcl_NotifyChannel(chanPtr->channel, mask);
    }
}

/*
 * FreeBuffers --
 *	Tcl keeps up to three buffers of -buffersize for each channel that was used. One that has
 *	been told of everything, and of which no more is expected at once, may wait for long: let
 *	Tcl free those that are empty, as it does when the size changes. (Not where something is
 *	stacked on the channel: a transform may be reading into one.)
 */
static void
FreeBuffers(IocpChan *chanPtr)
{
    Tcl_Channel channel = chanPtr->channel;

    if (channel != NULL && chanPtr->recvFirstPtr == NULL
	    && !(chanPtr->flags & IOCP_CHANF_RECV_FULL)
	    && Tcl_GetTopChannel(channel) == channel && Tcl_InputBuffered(channel) == 0) {
	int size = (int)Tcl_GetChannelBufferSize(channel);

	Tcl_SetChannelBufferSize(channel, size - 1);
	Tcl_SetChannelBufferSize(channel, size);
    }
}

/*
 * BlockTime --
 *	Tell Tcl how long it may wait: not at all if there is something to do already.
 */
static void
BlockTime(IocpThread *threadPtr, int ready)
{
    static const Tcl_Time now = {0, 0};
    int64_t dueNs = IocpThreadDue(threadPtr);

    if (ready || threadPtr->ready.firstPtr != NULL || threadPtr->readyListeners.firstPtr != NULL
	    || threadPtr->streams.firstPtr != NULL) {
	Tcl_SetMaxBlockTime(&now);
    } else if (dueNs >= 0) {
	Tcl_Time due = {(long)(dueNs / IOCP_SECOND), (long)(dueNs % IOCP_SECOND / 1000 + 1)};

	Tcl_SetMaxBlockTime(&due);
    }
}

/*
 * EndTurn --
 *	If nothing more of a turn is in Tcl's queue, arm the engine, unless it is the loop itself.
 *	In Tcl's own loop, SetupProc comes next.
 */
static void
EndTurn(IocpThread *threadPtr)
{
    if (!IocpNotifierHosts() && !threadPtr->sweepQueued && threadPtr->eventsWaiting == 0) {
	int ready = threadPtr->enginePtr->typePtr->armProc(threadPtr->enginePtr, 1);

	BlockTime(threadPtr, ready || threadPtr->dirty.firstPtr != NULL);
    }
}

/*
 * ChanEventProc --
 *	Something may have happened that scripts are to know of.
 */
static int
ChanEventProc(Tcl_Event *eventPtr, int flags)
{
    IocpChan *chanPtr;
    IocpThread *threadPtr;
    IocpTold told;

    if (!(flags & TCL_FILE_EVENTS)) {
	return 0;
    }
    chanPtr = TakeEvent(eventPtr);
    threadPtr = chanPtr->threadPtr;
    IocpThreadSettle(threadPtr);
    if (chanPtr->channel == NULL) {
	IocpChanUnref(chanPtr);
	EndTurn(threadPtr);
	return 1;
    }
    told = (IocpTold){chanPtr, threadPtr->toldPtr};
    threadPtr->toldPtr = &told;
    threadPtr->toldCount++;
    threadPtr->toldSince = IocpNow();
    IocpCopyServe(chanPtr);
    if (IocpThreadIsCurrent(threadPtr) && told.chanPtr != NULL && chanPtr->channel != NULL) {
	Tell(chanPtr);
    }
    if (!IocpThreadIsCurrent(threadPtr)) {
	return 1;		/* The script has ended Tcl in this thread, and us with it. */
    }
    IocpThreadSettle(threadPtr);	/* The script may have forked. */
    threadPtr->toldPtr = told.outerPtr;
    if (threadPtr->dirtyCount >= DIRTY_MAX) {
	IocpThreadReap(threadPtr);
    }
    if (told.chanPtr != NULL) {
	FreeBuffers(chanPtr);
	IocpNameForget(chanPtr->namePtr);
	IocpChanUnref(chanPtr);
    }
    EndTurn(threadPtr);
    IocpThreadRelease(threadPtr);
    return 1;
}

/*
 * IocpEventTells --
 *	Whether an event of the channel is being told: its name is to be forgotten after that.
 */
int
IocpEventTells(const IocpChan *chanPtr)
{
    const IocpTold *toldPtr = chanPtr->threadPtr->toldPtr;

    return toldPtr != NULL && toldPtr->chanPtr == chanPtr;
}

/*
 * IdleProc --
 *	Idle callbacks have run: they are not starved.
 */
static void
IdleProc(void *clientData)
{
    IocpThread *threadPtr = clientData;

    threadPtr->idleAwaited = 0;
    threadPtr->idleDue = IocpNow() + IDLE_NS;
}

static int
SweepEventProc(Tcl_Event *eventPtr, int flags)
{
    IocpThread *threadPtr = ((SweepEvent *)eventPtr)->threadPtr;
    uint64_t now;

    if (!(flags & TCL_FILE_EVENTS)) {
	return 0;
    }
    threadPtr->sweepQueued = 0;
    IocpThreadSettle(threadPtr);
    now = IocpNow();
    if (now < threadPtr->turnEnd) {
	threadPtr->serving = 1;
	IocpThreadReap(threadPtr);
	threadPtr->serving = 0;
    }
    if (now >= threadPtr->idleDue && (flags & TCL_IDLE_EVENTS)) {
	threadPtr->idleDue = now + IDLE_NS;
	if (!threadPtr->idleAwaited) {
	    threadPtr->idleAwaited = 1;
	    Tcl_DoWhenIdle(IdleProc, threadPtr);
	} else {
	    Tcl_DoOneEvent(TCL_IDLE_EVENTS | TCL_DONT_WAIT);
	    if (!IocpThreadIsCurrent(threadPtr)) {
		return 1;	/* A callback has ended Tcl in this thread, and us with it. */
	    }
	    IocpThreadSettle(threadPtr);
	}
    }
    EndTurn(threadPtr);
    return 1;
}

static void
SetupProc(void *clientData, int flags)
{
    IocpThread *threadPtr = clientData;
    int rounds = 0, ready;

    if (!(flags & TCL_FILE_EVENTS)) {
	return;
    }
    IocpThreadSettle(threadPtr);
    threadPtr->serving = 1;
    CheckStreams(threadPtr);
    threadPtr->turnEnd = 0;
    threadPtr->orphaned = 0;	/* Somebody runs the loop. */
    IocpThreadTick(threadPtr);
    if (IocpNotifierHosts()) {
	IocpEventFlushDirty(threadPtr);
	ready = 0;
    } else {
	do {
	    IocpThreadReap(threadPtr);
	} while (threadPtr->dirty.firstPtr != NULL && ++rounds < SETUP_ROUNDS);
	ready = threadPtr->enginePtr->typePtr->armProc(threadPtr->enginePtr, 1)
		|| threadPtr->dirty.firstPtr != NULL;
    }

    /*
     * Only now, since what has been submitted or reaped may be to be tried again.
     */

    BlockTime(threadPtr, ready);
    threadPtr->serving = 0;
}

/*
 * QueueReady --
 *	Channels that have something to tell get their events, and a sweep event if that is wanted.
 */
static void
QueueReady(IocpThread *threadPtr, IocpQueue *queuePtr, int max, int sweep)
{
    for (int i = 0; i < max && queuePtr->firstPtr != NULL; i++) {
	IocpChan *chanPtr = QueuePop(queuePtr, ReadyLink);

	if (chanPtr->channel != NULL && !chanPtr->eventQueued) {
	    QueueChanEvent(threadPtr, chanPtr);
	    if (sweep) {
		QueueSweep(threadPtr);
	    }
	}
	IocpChanUnref(chanPtr);
    }
}

static void
CheckProc(void *clientData, int flags)
{
    IocpThread *threadPtr = clientData;
    int hosts = IocpNotifierHosts(), sweep;
    uint64_t now = IocpNow();

    if (!(flags & TCL_FILE_EVENTS)) {
	return;
    }
    IocpThreadSettle(threadPtr);
    threadPtr->serving = 1;
    if (!hosts) {
	threadPtr->enginePtr->typePtr->armProc(threadPtr->enginePtr, 0);
	threadPtr->turnEnd = now + IOCP_TURN;
    }
    sweep = !hosts || now >= threadPtr->idleDue;
    QueueReady(threadPtr, &threadPtr->readyListeners, LISTENERS_MAX, sweep);
    QueueReady(threadPtr, &threadPtr->ready, TELL_MAX, sweep);
    if (!hosts) {
	IocpThreadReap(threadPtr);
	EndTurn(threadPtr);
    }
    threadPtr->serving = 0;
}

/*
 * IocpEventSourceNew --
 *	Begin to serve the thread's event loop. Scripts count on files coming before timers, which
 *	are an event source as well: what was created last is asked first. So let Tcl create that
 *	one now, if it has not: in Tcl 9 it has not.
 */
void
IocpEventSourceNew(IocpThread *threadPtr)
{
    Tcl_CancelIdleCall(IdleProc, threadPtr);
    Tcl_CreateEventSource(SetupProc, CheckProc, threadPtr);
    IocpEventWatch(threadPtr);
}

static void
DropQueue(IocpQueue *queuePtr, LinkProc *linkProc)
{
    IocpChan *chanPtr;

    while ((chanPtr = QueuePop(queuePtr, linkProc)) != NULL) {
	IocpChanUnref(chanPtr);
    }
}

/*
 * IocpEventDropQueues --
 *	The thread has no open channel any more: let go of the closed ones on its lists.
 */
void
IocpEventDropQueues(IocpThread *threadPtr)
{
    DropQueue(&threadPtr->dirty, DirtyLink);
    DropQueue(&threadPtr->readyListeners, ReadyLink);
    DropQueue(&threadPtr->ready, ReadyLink);
    DropQueue(&threadPtr->streams, StreamLink);
}

static int
IsOurEvent(Tcl_Event *eventPtr, void *clientData)
{
    (void)clientData;
    if (eventPtr->proc == ChanEventProc) {
	IocpChanUnref(TakeEvent(eventPtr));
	return 1;
    }
    return eventPtr->proc == SweepEventProc;
}

/*
 * IocpEventSourceFree --
 *	The thread ends: no script is told anything any more.
 */
void
IocpEventSourceFree(IocpThread *threadPtr)
{
    IocpEventUnwatch(threadPtr);
    Tcl_DeleteEventSource(SetupProc, CheckProc, threadPtr);
    Tcl_CancelIdleCall(IdleProc, threadPtr);
    Tcl_DeleteEvents(IsOurEvent, NULL);
}
