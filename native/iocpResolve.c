/*
 * iocpResolve.c --
 *	Looking names up off the Tcl thread. The system's resolver blocks for as long as the network
 *	likes, and cannot be interrupted, so it runs in threads of its own: at most RESOLVERS_MAX,
 *	each of which ends when nothing is left to do. What they work on belongs to nobody else
 *	meanwhile; an owner that has gone (a closed channel, a deleted interpreter) leaves it to the
 *	resolver to free. Nobody ever waits for such a thread, the end of the process neither.
 *
 *	An answer is told to the Tcl thread that asked by an event in its queue, and can be asked
 *	for without the event loop.
 */

#include "iocpInt.h"

#define RESOLVERS_MAX 16

typedef enum State {
    QUEUED,			/* On the queue: the owner's. */
    RUNNING,			/* A resolver's, which nobody else may touch but under the mutex. */
    ANSWERED			/* The owner's again. */
} State;

/*
 * All of it is guarded by the mutex, but the queries in the states in which they are one thread's.
 */
struct IocpResolve {
    State state;
    int forgotten;		/* RUNNING, and the owner has gone: the resolver frees it. */
    int told;			/* doneProc has been called, or its answer taken. */
    unsigned generation;	/* Of the process that started it. */
    Tcl_ThreadId threadId;	/* The owner's, to be told; NULL: between threads, at their end. */
    Tcl_Event *eventPtr;	/* To be queued there. */
    IocpResolvedProc *doneProc;
    void *clientData;
    int count;
    IocpQuery queries[IOCP_QUERIES_MAX];
    IocpResolve *nextPtr, *prevPtr;	/* All that have an owner, oldest first. */
    IocpResolve *queuePtr;	/* The queue. */
};

static IocpMutex resolveMutex = IOCP_MUTEX_INIT;
static IocpResolve *firstPtr = NULL, *lastPtr = NULL;
static IocpResolve *queueFirstPtr = NULL, *queueLastPtr = NULL;
static int resolvers = 0;	/* Threads that run. */
static int inPlace = 0;		/* No thread may be started; see IocpResolveForked. */
static int tclEnded = 0;	/* Tcl is being finalized: its queues are not to be touched. */
static int watchesTcl = 0;	/* TclEnds will be called. */
static unsigned generation = 0;	/* How many forks lie between the first process and this one. */

static void
TclEnds(void *unused)
{
    (void)unused;
    IocpMutexLock(&resolveMutex);
    tclEnded = 1;
    watchesTcl = 0;
    IocpMutexUnlock(&resolveMutex);
}

/*
 * IocpResolveForked --
 *	In a forked child there are no resolvers, and what they had under way, nobody will ever
 *	answer. Nothing but stores here: the parent may have been anywhere.
 *
 *	glibc gives a new thread of the child the memory of one of those resolvers, its open socket
 *	to the name server included (2.36), so that parent and child would take each other's
 *	answers. Such a child looks names up in place.
 */
void
IocpResolveForked(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    resolveMutex = unlocked;
    generation++;
    inPlace |= resolvers > 0;
    firstPtr = lastPtr = queueFirstPtr = queueLastPtr = NULL;
    resolvers = 0;
}

static void
Link(IocpResolve *resolvePtr)
{
    resolvePtr->prevPtr = lastPtr;
    *(lastPtr != NULL ? &lastPtr->nextPtr : &firstPtr) = resolvePtr;
    lastPtr = resolvePtr;
}

static void
Unlink(IocpResolve *resolvePtr)
{
    IocpResolve *nextPtr = resolvePtr->nextPtr, *prevPtr = resolvePtr->prevPtr;

    *(prevPtr != NULL ? &prevPtr->nextPtr : &firstPtr) = nextPtr;
    *(nextPtr != NULL ? &nextPtr->prevPtr : &lastPtr) = prevPtr;
}

static void
Enqueue(IocpResolve *resolvePtr)
{
    *(queueLastPtr != NULL ? &queueLastPtr->queuePtr : &queueFirstPtr) = resolvePtr;
    queueLastPtr = resolvePtr;
}

static void
Dequeue(IocpResolve *resolvePtr)
{
    IocpResolve **linkPtr = &queueFirstPtr, *beforePtr = NULL;

    while (*linkPtr != resolvePtr) {
	beforePtr = *linkPtr;
	linkPtr = &beforePtr->queuePtr;
    }
    *linkPtr = resolvePtr->queuePtr;
    if (queueLastPtr == resolvePtr) {
	queueLastPtr = beforePtr;
    }
}

static void
Destroy(IocpResolve *resolvePtr)
{
    for (int i = 0; i < resolvePtr->count; i++) {
	IocpQueryFree(&resolvePtr->queries[i]);
    }
    free(resolvePtr);
}

/*
 * ResolvedEventProc --
 *	Something that this thread asked for is answered: tell all its owners. One event may tell of
 *	many answers, and the later ones then find nothing left to tell.
 */
static int
ResolvedEventProc(Tcl_Event *eventPtr, int flags)
{
    Tcl_ThreadId threadId = Tcl_GetCurrentThread();
    IocpResolve *resolvePtr;

    (void)eventPtr;
    if (!(flags & TCL_FILE_EVENTS)) {
	return 0;
    }
    do {
	IocpMutexLock(&resolveMutex);
	resolvePtr = firstPtr;
	while (resolvePtr != NULL && (resolvePtr->state != ANSWERED || resolvePtr->told
		|| resolvePtr->threadId != threadId)) {
	    resolvePtr = resolvePtr->nextPtr;
	}
	if (resolvePtr != NULL) {
	    resolvePtr->told = 1;
	}
	IocpMutexUnlock(&resolveMutex);
	if (resolvePtr != NULL) {
	    resolvePtr->doneProc(resolvePtr->clientData);
	}
    } while (resolvePtr != NULL);
    return 1;
}

/*
 * NewEvent --
 *	Made by the Tcl thread, since it is Tcl's memory.
 */
static Tcl_Event *
NewEvent(void)
{
    Tcl_Event *eventPtr = (Tcl_Event *)Tcl_Alloc(sizeof(Tcl_Event));

    eventPtr->proc = ResolvedEventProc;
    return eventPtr;
}

/*
 * Answered --
 *	The mutex is locked.
 */
static void
Answered(IocpResolve *resolvePtr)
{
    resolvePtr->state = ANSWERED;
    if (resolvePtr->threadId != NULL && !tclEnded) {
	Tcl_ThreadQueueEvent(resolvePtr->threadId, resolvePtr->eventPtr, TCL_QUEUE_TAIL);
	Tcl_ThreadAlert(resolvePtr->threadId);
	resolvePtr->eventPtr = NULL;
    }
}

static void
Run(IocpResolve *resolvePtr)
{
    for (int i = 0; i < resolvePtr->count; i++) {
	IocpQueryRun(&resolvePtr->queries[i]);
    }
}

/*
 * Resolver --
 *	The body of a resolver thread.
 */
static void *
Resolver(void *unused)
{
    IocpResolve *resolvePtr;

    (void)unused;
    IocpNameThread("iocp-resolver");
    IocpMutexLock(&resolveMutex);
    while ((resolvePtr = queueFirstPtr) != NULL) {
	Dequeue(resolvePtr);
	resolvePtr->state = RUNNING;
	IocpMutexUnlock(&resolveMutex);
	Run(resolvePtr);
	IocpMutexLock(&resolveMutex);
	if (resolvePtr->forgotten) {
	    Destroy(resolvePtr);
	} else {
	    Answered(resolvePtr);
	}
    }
    resolvers--;
    IocpMutexUnlock(&resolveMutex);
    return NULL;
}

/*
 * IocpResolveStart --
 *	Answer the queries, which become the resolver's. doneProc is called with clientData from the
 *	event loop of the calling thread, unless IocpResolveTake had the answer before. Where no
 *	thread may or can be started, the queries are answered here and now.
 * Results:
 *	To be freed by IocpResolveFree. NULL if out of memory: the queries still are the caller's.
 */
IocpResolve *
IocpResolveStart(IocpQuery *queries, int count, IocpResolvedProc *doneProc, void *clientData)
{
    IocpResolve *resolvePtr = IOCP_OUT_OF_MEMORY() ? NULL : calloc(1, sizeof(IocpResolve));
    int watch;

    if (resolvePtr == NULL) {
	return NULL;
    }
    IOCP_ASSERT(count <= IOCP_QUERIES_MAX);
    resolvePtr->count = count;
    for (int i = 0; i < count; i++) {
	resolvePtr->queries[i] = queries[i];
	queries[i] = (IocpQuery){.answered = 1};
    }
    resolvePtr->doneProc = doneProc;
    resolvePtr->clientData = clientData;
    resolvePtr->threadId = Tcl_GetCurrentThread();
    resolvePtr->eventPtr = NewEvent();
    resolvePtr->generation = generation;
    IocpMutexLock(&resolveMutex);
    watch = !watchesTcl;
    watchesTcl = 1;
    tclEnded = 0;
    Link(resolvePtr);
    Enqueue(resolvePtr);
    if (!inPlace && resolvers < RESOLVERS_MAX && IocpSpawn(Resolver, NULL) == 0) {
	resolvers++;
    }
    if (resolvers == 0) {
	Dequeue(resolvePtr);
	resolvePtr->state = RUNNING;
	IocpMutexUnlock(&resolveMutex);
	Run(resolvePtr);
	IocpMutexLock(&resolveMutex);
	Answered(resolvePtr);
    }
    IocpMutexUnlock(&resolveMutex);
    if (watch) {
	Tcl_CreateExitHandler(TclEnds, NULL);
    }
    return resolvePtr;
}

/*
 * IocpResolveTake --
 *	Fetch the answers, if they are there.
 * Results:
 *	1, and the queries are the caller's; or 0.
 */
int
IocpResolveTake(IocpResolve *resolvePtr, IocpQuery *queries)
{
    int answered = 0;

    if (resolvePtr->generation == generation) {
	IocpMutexLock(&resolveMutex);
	answered = resolvePtr->state == ANSWERED;
	if (answered) {
	    resolvePtr->told = 1;
	}
	IocpMutexUnlock(&resolveMutex);
    }
    for (int i = 0; answered && i < resolvePtr->count; i++) {
	queries[i] = resolvePtr->queries[i];
	resolvePtr->queries[i] = (IocpQuery){.answered = 1};
    }
    return answered;
}

/*
 * IocpResolveLeave, IocpResolveJoin --
 *	The owner leaves its thread, and enters the calling one. The latter asks by itself whether
 *	the answer has come in between.
 */
static void
Disown(IocpResolve *resolvePtr)
{
    resolvePtr->threadId = NULL;
    if (resolvePtr->eventPtr != NULL) {
	Tcl_Free((char *)resolvePtr->eventPtr);
	resolvePtr->eventPtr = NULL;
    }
}

void
IocpResolveLeave(IocpResolve *resolvePtr)
{
    if (resolvePtr->generation == generation) {
	IocpMutexLock(&resolveMutex);
	Disown(resolvePtr);
	IocpMutexUnlock(&resolveMutex);
    }
}

void
IocpResolveJoin(IocpResolve *resolvePtr)
{
    if (resolvePtr->generation == generation) {
	IocpMutexLock(&resolveMutex);
	resolvePtr->threadId = Tcl_GetCurrentThread();
	if (resolvePtr->state != ANSWERED) {
	    resolvePtr->eventPtr = NewEvent();
	}
	IocpMutexUnlock(&resolveMutex);
    }
}

/*
 * IocpResolveFree --
 *	The owner has no use for it any more, answered or not.
 */
void
IocpResolveFree(IocpResolve *resolvePtr)
{
    if (resolvePtr->generation != generation) {
	return;			/* A resolver of the parent's has it for ever. */
    }
    IocpMutexLock(&resolveMutex);
    Unlink(resolvePtr);
    Disown(resolvePtr);
    if (resolvePtr->state == QUEUED) {
	Dequeue(resolvePtr);
    }
    if (resolvePtr->state == RUNNING) {
	resolvePtr->forgotten = 1;
    } else {
	Destroy(resolvePtr);
    }
    IocpMutexUnlock(&resolveMutex);
}

/*
 * IocpResolveThreadEnds --
 *	The calling thread's event loop will not run again: no answer is to be told to it. Its
 *	channels may still ask.
 */
void
IocpResolveThreadEnds(void)
{
    Tcl_ThreadId threadId = Tcl_GetCurrentThread();

    IocpMutexLock(&resolveMutex);
    for (IocpResolve *resolvePtr = firstPtr; resolvePtr != NULL;
	    resolvePtr = resolvePtr->nextPtr) {
	if (resolvePtr->threadId == threadId) {
	    Disown(resolvePtr);
	}
    }
    IocpMutexUnlock(&resolveMutex);
}
