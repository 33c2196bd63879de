/*
 * iocpStats.c --
 *	The counters. Each thread counts for itself; a query adds the threads up, all of them or
 *	those of one engine.
 */

#include "iocpInt.h"

static const char *const statNames[] = {
#define STAT_NAME(name) #name,
    IOCP_STATS(STAT_NAME)
#undef STAT_NAME
};

/*
 * All threads, and what those that have ended had counted. A channel that moved may have been
 * counted up in one thread and down in another: single entries may be negative (modulo 2^64), sums
 * are not.
 */
static IocpMutex threadsMutex = IOCP_MUTEX_INIT;
static IocpThread *threadsPtr = NULL;
static uint64_t endedStats[IOCP_ENGINES_MAX][IOCP_STAT_COUNT];

/*
 * EngineIndex --
 *	The engine's place in iocpEngineTypes; that of the NULL at the end for none of them, which
 *	is what a forked child's channels have.
 */
static int
EngineIndex(const IocpEngineType *typePtr)
{
    int index = 0;

    while (iocpEngineTypes[index] != NULL && strcmp(iocpEngineTypes[index]->typeName,
	    typePtr->typeName) != 0) {
	index++;
    }
    IOCP_ASSERT(index < IOCP_ENGINES_MAX);
    return index;
}

static uint64_t
ThreadValue(IocpThread *threadPtr, int stat)
{
    uint64_t value = atomic_load_explicit(&threadPtr->stats[stat], memory_order_relaxed);
    IocpEngineCounts *countsPtr = &threadPtr->enginePtr->counts;

    switch (stat) {
    case IOCP_STAT_enters:
	return value + atomic_load_explicit(&countsPtr->enters, memory_order_relaxed);
    case IOCP_STAT_waits:
	return value + atomic_load_explicit(&countsPtr->waits, memory_order_relaxed);
    case IOCP_STAT_poolBytes:
	return value + atomic_load_explicit(&countsPtr->poolBytes, memory_order_relaxed);
    default:
	return value;
    }
}

void
IocpStatsAddThread(IocpThread *threadPtr)
{
    IocpMutexLock(&threadsMutex);
    threadPtr->nextThreadPtr = threadsPtr;
    threadsPtr = threadPtr;
    IocpMutexUnlock(&threadsMutex);
}

/*
 * IocpStatsSetEngine --
 *	The thread gets another engine: whoever adds the threads up looks at the one or the other.
 */
void
IocpStatsSetEngine(IocpThread *threadPtr, IocpEngine *enginePtr)
{
    IocpMutexLock(&threadsMutex);
    threadPtr->enginePtr = enginePtr;
    IocpMutexUnlock(&threadsMutex);
}

/*
 * IocpThreadCount --
 *	How many threads use the driver.
 */
int
IocpThreadCount(void)
{
    int count = 0;

    IocpMutexLock(&threadsMutex);
    for (IocpThread *threadPtr = threadsPtr; threadPtr != NULL;
	    threadPtr = threadPtr->nextThreadPtr) {
	count++;
    }
    IocpMutexUnlock(&threadsMutex);
    return count;
}

/*
 * IocpThreadEach --
 *	Call a procedure for each thread that uses the driver. None of them goes meanwhile.
 */
void
IocpThreadEach(void (*proc)(IocpThread *threadPtr, void *clientData), void *clientData)
{
    IocpMutexLock(&threadsMutex);
    for (IocpThread *threadPtr = threadsPtr; threadPtr != NULL;
	    threadPtr = threadPtr->nextThreadPtr) {
	proc(threadPtr, clientData);
    }
    IocpMutexUnlock(&threadsMutex);
}

/*
 * IocpStatsForked --
 *	In a forked child, all of them are the parent's. Nothing but stores here: the parent may
 *	have been anywhere.
 */
void
IocpStatsForked(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    threadsMutex = unlocked;
    for (IocpThread *threadPtr = threadsPtr; threadPtr != NULL;
	    threadPtr = threadPtr->nextThreadPtr) {
	threadPtr->forked = 1;
	threadPtr->deferMutex = unlocked;
    }
}

/*
 * IocpStatsRemoveThread --
 *	The thread's counts stay, but for the pool, which goes with its engine.
 */
void
IocpStatsRemoveThread(IocpThread *threadPtr)
{
    IocpThread **linkPtr = &threadsPtr;
    int engine = EngineIndex(threadPtr->enginePtr->typePtr);

    IocpMutexLock(&threadsMutex);
    while (*linkPtr != threadPtr) {
	linkPtr = &(*linkPtr)->nextThreadPtr;
    }
    *linkPtr = threadPtr->nextThreadPtr;
    for (int i = 0; i < IOCP_STAT_COUNT; i++) {
	if (i != IOCP_STAT_poolBytes) {
	    endedStats[engine][i] += ThreadValue(threadPtr, i);
	}
    }
    IocpMutexUnlock(&threadsMutex);
}

int
Iocp_StatCount(void)
{
    return IOCP_STAT_COUNT;
}

const char *
Iocp_StatName(int index)
{
    return index >= 0 && index < IOCP_STAT_COUNT ? statNames[index] : NULL;
}

/*
 * Sum --
 *	A counter over all threads (engine -1), or those that an engine serves or has served.
 */
static uint64_t
Sum(int engine, int stat)
{
    uint64_t sum = 0;

    IocpMutexLock(&threadsMutex);
    for (int i = 0; i < IOCP_ENGINES_MAX; i++) {
	sum += engine < 0 || engine == i ? endedStats[i][stat] : 0;
    }
    for (IocpThread *threadPtr = threadsPtr; threadPtr != NULL;
	    threadPtr = threadPtr->nextThreadPtr) {
	if (engine < 0 || engine == EngineIndex(threadPtr->enginePtr->typePtr)) {
	    sum += ThreadValue(threadPtr, stat);
	}
    }
    IocpMutexUnlock(&threadsMutex);
    return sum;
}

unsigned long long
Iocp_StatValue(const char *engine, int index)
{
    if (index < 0 || index >= IOCP_STAT_COUNT) {
	return 0;
    }
    if (engine == NULL) {
	return Sum(-1, index);
    }
    for (int i = 0; iocpEngineTypes[i] != NULL; i++) {
	if (strcmp(engine, iocpEngineTypes[i]->typeName) == 0) {
	    return Sum(i, index);
	}
    }
    return 0;
}

/*
 * IocpStatsObjCmd --
 *	iocp_stats ?html?: the five lines of iocpsock, byte for byte; with a true argument as rows
 *	of an HTML table. Further arguments are ignored, as they always were.
 */
int
IocpStatsObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    const struct {
	const char *label;
	unsigned long long value;
    } rows[] = {
	{"Sockets open:", Sum(-1, IOCP_STAT_socketsOpen)},
	{"AcceptEx calls that returned an error:", Sum(-1, IOCP_STAT_acceptErrors)},
	{"Unreplaced AcceptEx calls:", Sum(-1, IOCP_STAT_acceptPauses)},
	{"General pool bytes in use:", Sum(-1, IOCP_STAT_heapBytes)},
	{"Special pool bytes in use:", Sum(-1, IOCP_STAT_bytesQueued)
		+ Sum(-1, IOCP_STAT_poolBytes)},
    };
    Tcl_Obj *resultPtr;
    int html = 0;

    (void)unused;
    if (objc > 1 && Tcl_GetBooleanFromObj(interp, objv[1], &html) != TCL_OK) {
	return TCL_ERROR;
    }
    resultPtr = Tcl_NewObj();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
	char number[24];

	snprintf(number, sizeof(number), "%llu", rows[i].value);
	Tcl_AppendPrintfToObj(resultPtr, html ? "<tr><td>%s</td><td>%s</td></tr>\n" : "%s %s\n",
		rows[i].label, number);
    }
    Tcl_SetObjResult(interp, resultPtr);
    return TCL_OK;
}

/*
 * IocpStatsDictObjCmd --
 *	iocp::stats ?engine?: all counters of the process as a dict, and the name of the engine of
 *	this thread; or those of the threads that the named engine serves or has served.
 */
int
IocpStatsDictObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    const char *names[IOCP_ENGINES_MAX + 1], *name = "";
    char reason[256];
    Tcl_Obj *dictPtr;
    int engine = -1;

    (void)unused;
    if (objc > 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "?engine?");
	return TCL_ERROR;
    }
    if (objc == 2) {
	Tcl_Obj *namePtr = Tcl_NewStringObj(Tcl_GetString(objv[1]), -1);
	int count = 0, result;

	while (iocpEngineTypes[count] != NULL) {
	    names[count] = iocpEngineTypes[count]->typeName;
	    count++;
	}
	names[count] = NULL;

	/*
	 * The object would remember the table, which is on the stack: so one that goes as well.
	 */

	Tcl_IncrRefCount(namePtr);
	result = Tcl_GetIndexFromObj(interp, namePtr, names, "engine", TCL_EXACT, &engine);
	Tcl_DecrRefCount(namePtr);
	if (result != TCL_OK) {
	    return TCL_ERROR;
	}
	name = names[engine];
    } else {
	IocpThread *threadPtr = IocpThreadGet(reason, sizeof(reason));

	name = threadPtr == NULL ? "" : threadPtr->enginePtr->typePtr->typeName;
    }
    dictPtr = Tcl_NewDictObj();
    Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj("engine", -1), Tcl_NewStringObj(name, -1));
    for (int i = 0; i < IOCP_STAT_COUNT; i++) {
	Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj(statNames[i], -1),
		Tcl_NewWideIntObj((Tcl_WideInt)Sum(engine, i)));
    }
    Tcl_SetObjResult(interp, dictPtr);
    return TCL_OK;
}
