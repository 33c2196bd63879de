/*
 * iocpDefer.c --
 *	The sends of a turn leave together. While more of the driver's events wait in Tcl's queue,
 *	what a handler writes is put off, and one system call hands over what several handlers
 *	wrote. The kernel wakes a peer for each send that finds it asleep; so it wakes once, and
 *	finds all its answers.
 *
 *	Only a server's writes are put off, those to connections that were accepted: a client that
 *	uses a connection again wants to hear from its write, and at once, that it is gone.
 *
 *	A handler may do anything after its write, and wait for its effect: in exec, on a pipe, in a
 *	computation. So nothing is put off for longer than LATE_NS: a thread of the process, the
 *	pusher, sends what is late. It looks every TICK_NS, and rests when nothing has been put off
 *	for REST_TICKS.
 *
 *	The send queue of a channel is its owner's (the channel's thread) but for the time in which
 *	the channel is on its thread's list of those put off: then deferMutex guards it. The moves:
 *
 *	  owner's -> put off	IocpDeferAdd
 *	  put off -> owner's	IocpDeferTake, IocpDeferTakeAll
 *
 *	The pusher only reads the queue, and notes how much of it the kernel has (pushed).
 */

#include "iocpInt.h"

#define LATE_NS IOCP_MS
#define TICK_NS IOCP_MS
#define REST_TICKS 200

static IocpMutex pusherMutex = IOCP_MUTEX_INIT;
static IocpCondition pusherWanted;	/* The pusher rests: there may be something. */
static int running = 0;		/* There is a pusher; guarded by the mutex. */
static _Atomic int resting = 1;	/* It does not look by itself. */
static _Atomic uint64_t added = 0;	/* Something was put off, since the pusher last looked. */

/*
 * PushChan --
 *	Send what the kernel takes of a channel that is put off. The mutex of its thread is locked.
 */
static void
PushChan(IocpThread *threadPtr, IocpChan *chanPtr)
{
    IocpSend *sendPtr = chanPtr->sendPtr;
    size_t skip = sendPtr->pushed;

    for (IocpBuf *bufPtr = sendPtr->firstPtr; bufPtr != NULL && sendPtr->pushError == 0;
	    bufPtr = bufPtr->nextPtr) {
	size_t size = bufPtr->end - bufPtr->start;
	int result;

	if (skip >= size) {
	    skip -= size;
	    continue;
	}
	result = threadPtr->enginePtr->typePtr->pushProc(&chanPtr->handle,
		bufPtr->data + bufPtr->start + skip, size - skip);
	if (result >= 0) {
	    sendPtr->pushed += (size_t)result;
	} else if (!IocpSendLater(result)) {
	    sendPtr->pushError = -result;
	}
	if (result != (int)(size - skip)) {
	    return;
	}
	skip = 0;
    }
}

/*
 * PushThread --
 *	Send what is late in a thread.
 */
static void
PushThread(IocpThread *threadPtr, void *clientData)
{
    uint64_t now = *(uint64_t *)clientData;

    if (threadPtr->forked) {
	return;			/* A parent's, whose list is the parent's too. */
    }
    IocpMutexLock(&threadPtr->deferMutex);
    if (threadPtr->deferFirstPtr != NULL && now - threadPtr->deferSince >= LATE_NS) {
	for (IocpChan *chanPtr = threadPtr->deferFirstPtr; chanPtr != NULL;
		chanPtr = chanPtr->sendPtr->deferNextPtr) {
	    PushChan(threadPtr, chanPtr);
	}
    }
    IocpMutexUnlock(&threadPtr->deferMutex);
}

/*
 * IocpDeferPushAll --
 *	The process ends: what any of its threads has put off leaves now, whether it is late or not.
 */
void
IocpDeferPushAll(void)
{
    uint64_t end = UINT64_MAX;

    IocpThreadEach(PushThread, &end);
}

static void *
Pusher(void *unused)
{
    uint64_t seen = 0;
    int quiet = 0;

    (void)unused;
    IocpNameThread("iocp-pusher");
    for (;;) {
	uint64_t now, count = atomic_load(&added);

	quiet = count == seen ? quiet + 1 : 0;
	seen = count;
	if (quiet > REST_TICKS) {
	    IocpMutexLock(&pusherMutex);
	    atomic_store(&resting, 1);
	    while (atomic_load(&resting) && atomic_load(&added) == seen) {
		IocpConditionWait(&pusherWanted, &pusherMutex);
	    }
	    atomic_store(&resting, 0);
	    IocpMutexUnlock(&pusherMutex);
	    quiet = 0;
	}
	IocpSleep(TICK_NS);
	now = IocpNow();
	IocpThreadEach(PushThread, &now);
    }
    return NULL;
}

/*
 * Rouse --
 *	The pusher is to look from now on.
 * Results:
 *	0 if there is none, and can be none.
 */
static int
Rouse(void)
{
    IocpMutexLock(&pusherMutex);
    if (!running) {
	IocpConditionInit(&pusherWanted);
	running = IocpSpawn(Pusher, NULL) == 0;
    }
    if (running) {
	atomic_store(&resting, 0);
	IocpConditionSignal(&pusherWanted);
    }
    IocpMutexUnlock(&pusherMutex);
    return running;
}

/*
 * IocpDeferMay --
 *	Whether what a handler writes now may be put off, since there is something to leave with:
 *	other handlers of this turn will be called, or something is put off already, or the handler
 *	has sent something to the same channel just now, and is likely to write more. And there is a
 *	pusher.
 */
int
IocpDeferMay(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;

    return threadPtr->toldPtr != NULL && !threadPtr->exiting
	    && (threadPtr->eventsWaiting > 0 || threadPtr->deferFirstPtr != NULL
		    || chanPtr->sendPtr->told == threadPtr->toldCount)
	    && (!atomic_load(&resting) || Rouse());
}

/*
 * IocpDeferAdd --
 *	Put off what is in the channel's queue.
 */
void
IocpDeferAdd(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpSend *sendPtr = chanPtr->sendPtr;

    sendPtr->deferred = 1;
    sendPtr->pushed = 0;
    sendPtr->pushError = 0;
    IocpMutexLock(&threadPtr->deferMutex);
    if (threadPtr->deferFirstPtr == NULL) {
	threadPtr->deferSince = threadPtr->toldSince;
    }
    sendPtr->deferNextPtr = threadPtr->deferFirstPtr;
    threadPtr->deferFirstPtr = chanPtr;
    IocpMutexUnlock(&threadPtr->deferMutex);

    /*
     * After this the pusher either sees the count move, or has said before that it rests.
     */

    atomic_fetch_add(&added, 1);
    if (atomic_load(&resting)) {
	Rouse();
    }
}

/*
 * IocpDeferTake --
 *	The channel's queue is its owner's again, less what the pusher has sent.
 */
void
IocpDeferTake(IocpChan *chanPtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpSend *sendPtr = chanPtr->sendPtr;
    IocpChan **linkPtr = &threadPtr->deferFirstPtr;

    if (!sendPtr->deferred) {
	return;
    }
    IocpMutexLock(&threadPtr->deferMutex);
    while (*linkPtr != chanPtr) {
	linkPtr = &(*linkPtr)->sendPtr->deferNextPtr;
    }
    *linkPtr = sendPtr->deferNextPtr;
    IocpMutexUnlock(&threadPtr->deferMutex);
    sendPtr->deferred = 0;
    IocpSendPushed(chanPtr, sendPtr->pushed, sendPtr->pushError);
}

/*
 * IocpDeferTakeAll --
 *	The same for all channels of the thread.
 */
void
IocpDeferTakeAll(IocpThread *threadPtr)
{
    IocpChan *chanPtr, *nextPtr;

    if (threadPtr->deferFirstPtr == NULL) {
	return;
    }
    IocpMutexLock(&threadPtr->deferMutex);
    chanPtr = threadPtr->deferFirstPtr;
    threadPtr->deferFirstPtr = NULL;
    IocpMutexUnlock(&threadPtr->deferMutex);
    for (; chanPtr != NULL; chanPtr = nextPtr) {
	IocpSend *sendPtr = chanPtr->sendPtr;

	nextPtr = sendPtr->deferNextPtr;
	sendPtr->deferred = 0;
	IocpSendPushed(chanPtr, sendPtr->pushed, sendPtr->pushError);
    }
}

/*
 * IocpDeferForked --
 *	In a forked child there is no pusher. Nothing but stores here: the parent may have been
 *	anywhere.
 */
void
IocpDeferForked(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    pusherMutex = unlocked;
    running = 0;
    atomic_store(&resting, 1);
}
