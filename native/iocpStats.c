/*
 * iocpStats.c --
 *	The counters. Each thread counts for itself; a query adds the threads up.
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
static uint64_t endedStats[IOCP_STAT_COUNT];

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
 * IocpStatsRemoveThread --
 *	The thread's counts stay, but for the pool, which goes with its engine.
 */
void
IocpStatsRemoveThread(IocpThread *threadPtr)
{
    IocpThread **linkPtr = &threadsPtr;

    IocpMutexLock(&threadsMutex);
    while (*linkPtr != threadPtr) {
	linkPtr = &(*linkPtr)->nextThreadPtr;
    }
    *linkPtr = threadPtr->nextThreadPtr;
    for (int i = 0; i < IOCP_STAT_COUNT; i++) {
	if (i != IOCP_STAT_poolBytes) {
	    endedStats[i] += ThreadValue(threadPtr, i);
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

unsigned long long
Iocp_StatValue(int index)
{
    uint64_t sum;

    if (index < 0 || index >= IOCP_STAT_COUNT) {
	return 0;
    }
    IocpMutexLock(&threadsMutex);
    sum = endedStats[index];
    for (IocpThread *threadPtr = threadsPtr; threadPtr != NULL;
	    threadPtr = threadPtr->nextThreadPtr) {
	sum += ThreadValue(threadPtr, index);
    }
    IocpMutexUnlock(&threadsMutex);
    return sum;
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
	{"Sockets open:", Iocp_StatValue(IOCP_STAT_socketsOpen)},
	{"AcceptEx calls that returned an error:", Iocp_StatValue(IOCP_STAT_acceptErrors)},
	{"Unreplaced AcceptEx calls:", Iocp_StatValue(IOCP_STAT_acceptsUnreplaced)},
	{"General pool bytes in use:", Iocp_StatValue(IOCP_STAT_heapBytes)},
	{"Special pool bytes in use:", Iocp_StatValue(IOCP_STAT_bytesQueued)
		+ Iocp_StatValue(IOCP_STAT_poolBytes)},
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
 *	iocp::stats: all counters of the process as a dict, and the engine's name.
 */
int
IocpStatsDictObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    char reason[256];
    IocpThread *threadPtr;
    Tcl_Obj *dictPtr;

    (void)unused;
    if (objc != 1) {
	Tcl_WrongNumArgs(interp, 1, objv, NULL);
	return TCL_ERROR;
    }
    threadPtr = IocpThreadGet(reason, sizeof(reason));
    dictPtr = Tcl_NewDictObj();
    Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj("engine", -1), Tcl_NewStringObj(
	    threadPtr == NULL ? "" : threadPtr->enginePtr->typePtr->typeName, -1));
    for (int i = 0; i < IOCP_STAT_COUNT; i++) {
	Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj(statNames[i], -1),
		Tcl_NewWideIntObj((Tcl_WideInt)Iocp_StatValue(i)));
    }
    Tcl_SetObjResult(interp, dictPtr);
    return TCL_OK;
}
