/*
 * iocpTimeout.c --
 *	-idletimeout and -requesttimeout: connections whose peers keep the thread waiting are ended.
 *
 *	idle	The peer has sent nothing, and taken nothing, for so long.
 *	request	What the peer has sent since something was last sent to it (or since it connected)
 *		takes so long, and REQUEST_NS more for each byte, that it is no request: a few bytes
 *		now and then hold a connection, and are never idle for long.
 *
 *	Only the peer's time counts: that in which the script reads, or waits to, or in which
 *	something is unsent.
 *
 *	A thread has a heap of its connections that have such a limit, on top the one that is to be
 *	looked at next (dueAt). What happens on a connection only sets its stamps; when it is looked
 *	at, once in its time-out however busy it is, the heap learns of them. Points of time are
 *	rounded, to a 16th of the time-out or a second, so that those of many are the same.
 */

#include "iocpInt.h"

#define REQUEST_NS IOCP_MS	/* A second for each thousand bytes. */
#define SOON_NS (10 * (uint64_t)IOCP_MS)
#define GRID_MAX (UINT64_C(1) << 30)	/* In nanoseconds: about a second. */
#define GRID_PARTS 16
#define NEVER UINT64_MAX

/* Belongs to the connection. Points of time are IocpNow's. */
struct IocpTimed {
    IocpChan *chanPtr;
    int index;			/* Its place in the thread's heap. */
    int unsent;			/* What the kernel had to send at activeAt (IocpSocketUnsent). */
    uint64_t dueAt;		/* When it is looked at. */
    uint64_t activeAt;		/* Since then the peer is awaited, and has done nothing. */
    uint64_t requestAt;		/* Since then it sends what is to be answered; 0: it does not. */
    uint64_t requestBytes;	/* So much of it. */
};

static uint64_t
IdleNs(const IocpTimed *timedPtr)
{
    return (uint64_t)timedPtr->chanPtr->settingsPtr->idleTimeoutMs * IOCP_MS;
}

static uint64_t
RequestNs(const IocpTimed *timedPtr)
{
    return (uint64_t)timedPtr->chanPtr->settingsPtr->requestTimeoutMs * IOCP_MS;
}

static uint64_t
IdleEnd(const IocpTimed *timedPtr)
{
    return IdleNs(timedPtr) == 0 ? NEVER : timedPtr->activeAt + IdleNs(timedPtr);
}

/*
 * RequestEnd --
 *	When what the peer sends has to be complete.
 */
static uint64_t
RequestEnd(const IocpTimed *timedPtr)
{
    if (RequestNs(timedPtr) == 0 || timedPtr->requestAt == 0) {
	return NEVER;
    }
    return timedPtr->requestAt + RequestNs(timedPtr) + timedPtr->requestBytes * REQUEST_NS;
}

/*
 * Round --
 *	The next point of time on the grid of a time-out.
 */
static uint64_t
Round(uint64_t due, uint64_t timeoutNs)
{
    uint64_t grid = GRID_MAX;

    while (grid > 1 && grid > timeoutNs / GRID_PARTS) {
	grid /= 2;
    }
    return (due | (grid - 1)) + 1;
}

static uint64_t
DueAt(const IocpTimed *timedPtr)
{
    uint64_t idleEnd = IdleEnd(timedPtr), requestEnd = RequestEnd(timedPtr);

    if (IocpProxyAwaits(timedPtr->chanPtr)) {
	return Round(timedPtr->activeAt + IOCP_PROXY_WAIT, IOCP_PROXY_WAIT);
    }
    if (idleEnd == NEVER && requestEnd == NEVER) {
	return NEVER;
    }
    return idleEnd < requestEnd ? Round(idleEnd, IdleNs(timedPtr))
	    : Round(requestEnd, RequestNs(timedPtr));
}

static void
Put(IocpTimed **timed, int index, IocpTimed *timedPtr)
{
    timed[index] = timedPtr;
    timedPtr->index = index;
}

/*
 * Move --
 *	Give a connection of the heap its place. The root is at 1.
 */
static void
Move(IocpTimed *timedPtr, uint64_t dueAt)
{
    IocpThread *threadPtr = timedPtr->chanPtr->threadPtr;
    IocpTimed **timed = threadPtr->timed;
    int index = timedPtr->index, child;

    timedPtr->dueAt = dueAt;
    for (; index > 1 && timed[index / 2]->dueAt > dueAt; index /= 2) {
	Put(timed, index, timed[index / 2]);
    }
    for (; (child = 2 * index) <= threadPtr->timedCount; index = child) {
	if (child < threadPtr->timedCount && timed[child + 1]->dueAt < timed[child]->dueAt) {
	    child++;
	}
	if (timed[child]->dueAt >= dueAt) {
	    break;
	}
	Put(timed, index, timed[child]);
    }
    Put(timed, index, timedPtr);
}

static int
Grow(IocpThread *threadPtr)
{
    int max = threadPtr->timedMax == 0 ? 16 : 2 * threadPtr->timedMax;
    IocpTimed **timed = IocpAlloc(threadPtr, (size_t)max * sizeof(*timed));

    if (timed == NULL) {
	return 0;
    }
    if (threadPtr->timed != NULL) {
	memcpy(timed, threadPtr->timed, (size_t)threadPtr->timedMax * sizeof(*timed));
	IocpFree(threadPtr, threadPtr->timed, (size_t)threadPtr->timedMax * sizeof(*timed));
    }
    threadPtr->timed = timed;
    threadPtr->timedMax = max;
    return 1;
}

/*
 * Add --
 *	Put a connection into the heap, at its end.
 * Results:
 *	NULL if out of memory.
 */
static IocpTimed *
Add(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpTimed *timedPtr = IocpAlloc(threadPtr, sizeof(IocpTimed));

    if (timedPtr == NULL
	    || (threadPtr->timedCount + 1 >= threadPtr->timedMax && !Grow(threadPtr))) {
	IocpFree(threadPtr, timedPtr, sizeof(IocpTimed));
	return NULL;
    }
    timedPtr->chanPtr = chanPtr;
    Put(threadPtr->timed, ++threadPtr->timedCount, timedPtr);
    return timedPtr;
}

/*
 * IocpTimeoutWatch --
 *	The connection's time-outs are new, or it is new to its thread: they begin now.
 * Results:
 *	0 if out of memory.
 */
int
IocpTimeoutWatch(IocpChan *chanPtr)
{
    if (chanPtr->listenerPtr != NULL) {
	return 1;		/* They are those of what it accepts. */
    }
    if (chanPtr->settingsPtr->idleTimeoutMs == 0 && chanPtr->settingsPtr->requestTimeoutMs == 0
	    && !IocpProxyAwaits(chanPtr)) {
	IocpTimeoutForget(chanPtr);
	return 1;
    }
    if (chanPtr->timedPtr == NULL && (chanPtr->timedPtr = Add(chanPtr)) == NULL) {
	return 0;
    }
    chanPtr->timedPtr->activeAt = IocpNow();
    chanPtr->timedPtr->requestAt = 0;
    Move(chanPtr->timedPtr, DueAt(chanPtr->timedPtr));
    IocpEventNudge(chanPtr->threadPtr);
    return 1;
}

/*
 * IocpTimeoutForget --
 *	The connection is closed, or leaves its thread, or has no time-outs any more.
 */
void
IocpTimeoutForget(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpTimed *timedPtr = chanPtr->timedPtr, *lastPtr;

    if (timedPtr == NULL) {
	return;
    }
    lastPtr = threadPtr->timed[threadPtr->timedCount--];
    if (lastPtr != timedPtr) {
	lastPtr->index = timedPtr->index;
	Move(lastPtr, lastPtr->dueAt);
    }
    chanPtr->timedPtr = NULL;
    IocpFree(threadPtr, timedPtr, sizeof(*timedPtr));
    if (threadPtr->timedCount == 0) {
	IocpFree(threadPtr, threadPtr->timed,
		(size_t)threadPtr->timedMax * sizeof(*threadPtr->timed));
	threadPtr->timed = NULL;
	threadPtr->timedMax = 0;
    }
}

/*
 * Note --
 *	The peer's time begins now. If it is to take something, what the kernel has for it tells
 *	whether it does: nobody hears of that before there is much room again.
 */
static void
Note(IocpTimed *timedPtr)
{
    const IocpChan *chanPtr = timedPtr->chanPtr;

    timedPtr->activeAt = IocpNow();
    if (chanPtr->sendPtr->firstPtr != NULL || chanPtr->sendPtr->copyPtr != NULL) {
	timedPtr->unsent = IocpSocketUnsent(chanPtr->handle.fd);
    }
}

/*
 * IocpTimeoutReceived, IocpTimeoutSent, IocpTimeoutWait --
 *	The peer has sent something, or taken something; or it is waited for from now on.
 */
void
IocpTimeoutReceived(IocpChan *chanPtr, size_t size)
{
    IocpTimed *timedPtr = chanPtr->timedPtr;

    if (timedPtr == NULL || IocpProxyAwaits(chanPtr)) {
	return;
    }
    Note(timedPtr);
    if (timedPtr->requestAt == 0) {
	timedPtr->requestAt = timedPtr->activeAt;
	timedPtr->requestBytes = 0;
    }
    timedPtr->requestBytes += size;
    if (RequestNs(timedPtr) > 0 && DueAt(timedPtr) < timedPtr->dueAt) {
	Move(timedPtr, DueAt(timedPtr));
    }
}

void
IocpTimeoutSent(IocpChan *chanPtr)
{
    if (chanPtr->timedPtr != NULL) {
	Note(chanPtr->timedPtr);
	chanPtr->timedPtr->requestAt = 0;
    }
}

void
IocpTimeoutWait(IocpChan *chanPtr)
{
    if (chanPtr->timedPtr != NULL) {
	Note(chanPtr->timedPtr);
    }
}

/*
 * Awaited --
 *	What the peer is to do, as poll(2) has it: POLLIN, send something; POLLOUT, take something.
 */
static short
Awaited(const IocpChan *chanPtr)
{
    short events = 0;

    if (chanPtr->state != IOCP_OPEN) {
	return 0;
    }
    if (chanPtr->recvFirstPtr == NULL && !(chanPtr->flags & IOCP_CHANF_EOF)
	    && ((chanPtr->watchMask & TCL_READABLE) || chanPtr->sourcePtr != NULL
	    || ((chanPtr->flags & IOCP_CHANF_RECV_WANTED)
	    && !(chanPtr->flags & IOCP_CHANF_NONBLOCKING)))) {
	events |= POLLIN;
    }
    if (chanPtr->sendError == 0
	    && (chanPtr->sendPtr->firstPtr != NULL || chanPtr->sendPtr->filePtr != NULL)) {
	events |= POLLOUT;
    }
    return events;
}

/*
 * Takes --
 *	Whether the peer has taken something since this was noted.
 */
static int
Takes(IocpTimed *timedPtr)
{
    int unsent = IocpSocketUnsent(timedPtr->chanPtr->handle.fd), before = timedPtr->unsent;

    timedPtr->unsent = unsent;
    return unsent < before;
}

/*
 * HasHappened --
 *	Whether the peer has done so, only nobody has taken note yet: the thread may have been busy
 *	for long.
 */
static int
HasHappened(const IocpChan *chanPtr, short events)
{
    return chanPtr->sendPtr->deferred || IocpSocketPoll(chanPtr->handle.fd, events, 0) != 0;
}

/*
 * End --
 *	For the script, the data ends here, and what is unsent cannot be sent.
 */
static void
End(IocpChan *chanPtr, short events)
{
    IocpChanError(chanPtr, ETIMEDOUT);
    chanPtr->flags |= IOCP_CHANF_EOF;
    IocpOpCancel(chanPtr, &chanPtr->recvOp);
    if (events & POLLOUT) {
	chanPtr->sendError = ETIMEDOUT;
	chanPtr->sendErrorUntold = 1;
	IocpSendCancel(chanPtr);
    }
    IocpEventDirty(chanPtr);	/* A copy is to see it. */
    IocpEventTell(chanPtr);
}

/*
 * Look --
 *	The connection is due. While the script is busy with what the peer has sent, and when a
 *	limit has been reached, the peer's time begins anew.
 */
static void
Look(IocpTimed *timedPtr, uint64_t now)
{
    IocpChan *chanPtr = timedPtr->chanPtr;
    short events = Awaited(chanPtr);
    int idle = now >= IdleEnd(timedPtr), slow = now >= RequestEnd(timedPtr);
    short ended;

    if (IocpProxyAwaits(chanPtr)) {
	if (HasHappened(chanPtr, POLLIN)) {
	    Move(timedPtr, now + SOON_NS);
	} else {
	    IocpProxyRefuse(chanPtr);
	}
	return;
    }
    if (idle && (events & POLLOUT) && Takes(timedPtr)) {
	timedPtr->activeAt = now;
	idle = 0;
    }
    ended = idle ? events : slow ? events & POLLIN : 0;

    if (ended != 0 && HasHappened(chanPtr, ended)) {
	Move(timedPtr, now + SOON_NS);
	return;
    }
    if (ended != 0) {
	IOCP_COUNT(chanPtr->threadPtr, idleTimeouts, idle);
	IOCP_COUNT(chanPtr->threadPtr, requestTimeouts, !idle);
	End(chanPtr, ended);
    }
    if (events == 0 || idle) {
	timedPtr->activeAt = now;
    }
    if (events == 0 || slow) {
	timedPtr->requestAt = 0;
    }
    Move(timedPtr, DueAt(timedPtr));
}

/*
 * IocpTimeoutTick --
 *	End what is due.
 */
void
IocpTimeoutTick(IocpThread *threadPtr, uint64_t now)
{
    while (IocpTimeoutDue(threadPtr) <= now) {
	Look(threadPtr->timed[1], now);
    }
}

/*
 * IocpTimeoutDue --
 *	When a connection is to be looked at; UINT64_MAX: none is.
 */
uint64_t
IocpTimeoutDue(const IocpThread *threadPtr)
{
    return threadPtr->timedCount > 0 ? threadPtr->timed[1]->dueAt : NEVER;
}
