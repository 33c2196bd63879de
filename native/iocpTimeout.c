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

static uint64_t
IdleNs(const IocpChan *chanPtr)
{
    return (uint64_t)chanPtr->settings.idleTimeoutMs * IOCP_MS;
}

/*
 * RequestEnd --
 *	When what the peer sends has to be complete.
 */
static uint64_t
RequestEnd(const IocpChan *chanPtr)
{
    if (chanPtr->settings.requestTimeoutMs == 0 || chanPtr->requestAt == 0) {
	return NEVER;
    }
    return chanPtr->requestAt + (uint64_t)chanPtr->settings.requestTimeoutMs * IOCP_MS
	    + chanPtr->requestBytes * REQUEST_NS;
}

static uint64_t
IdleEnd(const IocpChan *chanPtr)
{
    return chanPtr->settings.idleTimeoutMs == 0 ? NEVER : chanPtr->activeAt + IdleNs(chanPtr);
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
DueAt(const IocpChan *chanPtr)
{
    uint64_t idleEnd = IdleEnd(chanPtr), requestEnd = RequestEnd(chanPtr);

    if (IocpProxyAwaits(chanPtr)) {
	return Round(chanPtr->activeAt + IOCP_PROXY_WAIT, IOCP_PROXY_WAIT);
    }
    if (idleEnd == NEVER && requestEnd == NEVER) {
	return NEVER;
    }
    return idleEnd < requestEnd ? Round(idleEnd, IdleNs(chanPtr))
	    : Round(requestEnd, (uint64_t)chanPtr->settings.requestTimeoutMs * IOCP_MS);
}

static void
Put(IocpThread *threadPtr, int index, IocpChan *chanPtr)
{
    threadPtr->timed[index] = chanPtr;
    chanPtr->timedIndex = index;
}

/*
 * Move --
 *	Give a connection of the heap its place. The root is at 1.
 */
static void
Move(IocpChan *chanPtr, uint64_t dueAt)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpChan **timed = threadPtr->timed;
    int index = chanPtr->timedIndex, child;

    chanPtr->dueAt = dueAt;
    for (; index > 1 && timed[index / 2]->dueAt > dueAt; index /= 2) {
	Put(threadPtr, index, timed[index / 2]);
    }
    for (; (child = 2 * index) <= threadPtr->timedCount; index = child) {
	if (child < threadPtr->timedCount && timed[child + 1]->dueAt < timed[child]->dueAt) {
	    child++;
	}
	if (timed[child]->dueAt >= dueAt) {
	    break;
	}
	Put(threadPtr, index, timed[child]);
    }
    Put(threadPtr, index, chanPtr);
}

static int
Grow(IocpThread *threadPtr)
{
    int max = threadPtr->timedMax == 0 ? 16 : 2 * threadPtr->timedMax;
    IocpChan **timed = IocpAlloc(threadPtr, (size_t)max * sizeof(*timed));

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
 * IocpTimeoutWatch --
 *	The connection's time-outs are new, or it is new to its thread: they begin now.
 * Results:
 *	0 if out of memory.
 */
int
IocpTimeoutWatch(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    if (chanPtr->listenerPtr != NULL) {
	return 1;		/* They are those of what it accepts. */
    }
    if (chanPtr->settings.idleTimeoutMs == 0 && chanPtr->settings.requestTimeoutMs == 0
	    && !IocpProxyAwaits(chanPtr)) {
	IocpTimeoutForget(chanPtr);
	return 1;
    }
    if (chanPtr->timedIndex == 0) {
	if (threadPtr->timedCount + 1 >= threadPtr->timedMax && !Grow(threadPtr)) {
	    return 0;
	}
	Put(threadPtr, ++threadPtr->timedCount, chanPtr);
    }
    chanPtr->activeAt = IocpNow();
    chanPtr->requestAt = 0;
    Move(chanPtr, DueAt(chanPtr));
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
    IocpChan *lastPtr;

    if (chanPtr->timedIndex == 0) {
	return;
    }
    lastPtr = threadPtr->timed[threadPtr->timedCount--];
    if (lastPtr != chanPtr) {
	lastPtr->timedIndex = chanPtr->timedIndex;
	Move(lastPtr, lastPtr->dueAt);
    }
    chanPtr->timedIndex = 0;
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
Note(IocpChan *chanPtr)
{
    chanPtr->activeAt = IocpNow();
    if (chanPtr->sendFirstPtr != NULL || chanPtr->copyPtr != NULL) {
	chanPtr->unsent = IocpSocketUnsent(chanPtr->handle.fd);
    }
}

/*
 * IocpTimeoutReceived, IocpTimeoutSent, IocpTimeoutWait --
 *	The peer has sent something, or taken something; or it is waited for from now on.
 */
void
IocpTimeoutReceived(IocpChan *chanPtr, size_t size)
{
    if (chanPtr->timedIndex == 0 || IocpProxyAwaits(chanPtr)) {
	return;
    }
    Note(chanPtr);
    if (chanPtr->requestAt == 0) {
	chanPtr->requestAt = chanPtr->activeAt;
	chanPtr->requestBytes = 0;
    }
    chanPtr->requestBytes += size;
    if (chanPtr->settings.requestTimeoutMs > 0 && DueAt(chanPtr) < chanPtr->dueAt) {
	Move(chanPtr, DueAt(chanPtr));
    }
}

void
IocpTimeoutSent(IocpChan *chanPtr)
{
    if (chanPtr->timedIndex != 0) {
	Note(chanPtr);
	chanPtr->requestAt = 0;
    }
}

void
IocpTimeoutWait(IocpChan *chanPtr)
{
    if (chanPtr->timedIndex != 0) {
	Note(chanPtr);
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
    if (chanPtr->sendError == 0 && (chanPtr->sendFirstPtr != NULL || chanPtr->filePtr != NULL)) {
	events |= POLLOUT;
    }
    return events;
}

/*
 * Takes --
 *	Whether the peer has taken something since this was noted.
 */
static int
Takes(IocpChan *chanPtr)
{
    int unsent = IocpSocketUnsent(chanPtr->handle.fd), before = chanPtr->unsent;

    chanPtr->unsent = unsent;
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
    return chanPtr->deferred || IocpSocketPoll(chanPtr->handle.fd, events, 0) != 0;
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
	IocpOpCancel(chanPtr, &chanPtr->sendOp);
	IocpMoveCancel(chanPtr);
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
Look(IocpChan *chanPtr, uint64_t now)
{
    short events = Awaited(chanPtr);
    int idle = now >= IdleEnd(chanPtr), slow = now >= RequestEnd(chanPtr);
    short ended;

    if (IocpProxyAwaits(chanPtr)) {
	if (HasHappened(chanPtr, POLLIN)) {
	    Move(chanPtr, now + SOON_NS);
	} else {
	    IocpProxyRefuse(chanPtr);
	}
	return;
    }
    if (idle && (events & POLLOUT) && Takes(chanPtr)) {
	chanPtr->activeAt = now;
	idle = 0;
    }
    ended = idle ? events : slow ? events & POLLIN : 0;

    if (ended != 0 && HasHappened(chanPtr, ended)) {
	Move(chanPtr, now + SOON_NS);
	return;
    }
    if (ended != 0) {
	IOCP_COUNT(chanPtr->threadPtr, idleTimeouts, idle);
	IOCP_COUNT(chanPtr->threadPtr, requestTimeouts, !idle);
	End(chanPtr, ended);
    }
    if (events == 0 || idle) {
	chanPtr->activeAt = now;
    }
    if (events == 0 || slow) {
	chanPtr->requestAt = 0;
    }
    Move(chanPtr, DueAt(chanPtr));
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
