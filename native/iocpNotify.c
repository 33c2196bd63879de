/*
 * iocpNotify.c --
 *	Host mode: Tcl's whole event loop on the driver ("iocp::notifier ring"). One wait of the
 *	engine serves the driver's channels, timers, every descriptor of Tcl_CreateFileHandler and
 *	the alerts of other threads. Tcl 8.6's own notifier hands each wait to a thread of its own
 *	and back, and aborts the process for a descriptor above 1,023.
 *
 *	A pass of the loop, in a thread that uses the driver:
 *
 *	  SetupProc (iocpEvent.c)	a channel is ready already: do not block
 *	  WaitForEvent			submit, wait, reap; fetch what the poll set has
 *	  CheckProc (iocpEvent.c)	an event for each channel that has something to tell
 *
 *	Other descriptors are in the thread's poll set, whose own descriptor the engine attends to.
 *	A thread that has no engine waits on the poll set alone.
 *
 *	Tcl has one notifier for the process. Threads that used Tcl's own before would lose what
 *	they gave to it, so the choice must come first (MayHost).
 */

#include "iocpInt.h"
#include "engine/pollset.h"

#define FETCH_MAX 256
#define RETRY_NS (20 * IOCP_MS)	/* Until what cannot be watched now is tried again. */
#define FOREVER_SECONDS 1000000000	/* Longer waits than that need no end. */

typedef struct FileHandler {
    int fd;
    uint32_t serial;		/* Of the registration: numbers are used again. */
    int mask;			/* What is watched for: TCL_READABLE, ... */
    int readyMask;		/* What the event in Tcl's queue is to tell; 0: there is none. */
    int always;			/* A regular file: always ready. */
    int lacking;		/* The kernel cannot watch it now. */
    Tcl_FileProc *proc;
    void *clientData;
} FileHandler;

/*
 * A thread's. Made when the thread first uses the notifier; freed when Tcl finalizes it in the
 * thread, or when the thread ends, since Tcl is not finalized in a thread of Python's. Only
 * keyPtr, setPtr and alerted are looked at by other threads, under the mutex.
 */
typedef struct Notifier {
    void *keyPtr;		/* What Tcl calls it by. */
    IocpPollSet *setPtr;	/* NULL: to be made, or made anew. */
    int alerted;		/* An alert that found no poll set. */
    int stale;			/* The poll set is to be made anew: it is a parent's, or reports
				 * what cannot be removed from it. */
    uint32_t serial;
    int alwaysCount;		/* Handlers that are always ready. */
    int lackingCount;		/* Handlers that are not watched as they should be, */
    uint64_t retryDue;		/* and when they are tried again. */
    Tcl_HashTable handlers;	/* FileHandler by descriptor. */
    struct Notifier *nextPtr;
} Notifier;

typedef struct FileEvent {
    Tcl_Event header;		/* Must be first. */
    int fd;			/* Not the handler: it may go meanwhile. */
} FileEvent;

static _Atomic int hosting = 0;
static IocpMutex mutex = IOCP_MUTEX_INIT;
static Notifier *notifiersPtr = NULL;	/* Of all threads. */
static IOCP_THREAD_LOCAL Notifier *currentPtr = NULL;
static IOCP_THREAD_LOCAL Notifier *learningPtr = NULL;
static IocpThreadKey threadEnd;

/*
 * IocpNotifierHosts --
 *	Whether Tcl's event loop runs on the driver.
 */
int
IocpNotifierHosts(void)
{
    return atomic_load_explicit(&hosting, memory_order_relaxed);
}

/*
 * IocpNotifierSelects --
 *	Whether the event loop is that of Tcl 8.6, which has no room for descriptors from
 *	IOCP_NOTIFY_FD_END on.
 */
int
IocpNotifierSelects(void)
{
    return TCL_MAJOR_VERSION < 9 && !IocpNotifierHosts();
}

/*
 * NotifierFree --
 *	The thread ends, or Tcl in it.
 */
static void
NotifierFree(void *clientData)
{
    Notifier *notifierPtr = clientData;
    Notifier **linkPtr = &notifiersPtr;
    Tcl_HashSearch search;

    IocpMutexLock(&mutex);
    while (*linkPtr != notifierPtr) {
	linkPtr = &(*linkPtr)->nextPtr;
    }
    *linkPtr = notifierPtr->nextPtr;
    IocpMutexUnlock(&mutex);
    for (Tcl_HashEntry *entryPtr = Tcl_FirstHashEntry(&notifierPtr->handlers, &search);
	    entryPtr != NULL; entryPtr = Tcl_NextHashEntry(&search)) {
	free(Tcl_GetHashValue(entryPtr));
    }
    Tcl_DeleteHashTable(&notifierPtr->handlers);
    if (notifierPtr->setPtr != NULL) {
	IocpThreadUnattend();
	IocpPollSetFree(notifierPtr->setPtr);
    }
    free(notifierPtr);
    currentPtr = NULL;
}

static void
ForkedChild(void)
{
    mutex = (IocpMutex)IOCP_MUTEX_INIT;
    if (currentPtr != NULL) {
	currentPtr->stale = 1;
    }
}

static Notifier *
NotifierNew(void)
{
    Notifier *notifierPtr = calloc(1, sizeof(Notifier));

    if (notifierPtr == NULL) {
	Tcl_Panic("iocp: out of memory for a thread's notifier");
    }
    Tcl_InitHashTable(&notifierPtr->handlers, TCL_ONE_WORD_KEYS);
    notifierPtr->keyPtr = notifierPtr;
    IocpMutexLock(&mutex);
    notifierPtr->nextPtr = notifiersPtr;
    notifiersPtr = notifierPtr;
    IocpMutexUnlock(&mutex);
    IocpThreadKeySet(threadEnd, notifierPtr);
    currentPtr = notifierPtr;
    return notifierPtr;
}

/*
 * Current --
 *	The calling thread's notifier. A thread that Tcl had met before the notifier was chosen has
 *	another name with Tcl than we would give it: an alert to oneself tells which.
 */
static Notifier *
Current(void)
{
    if (currentPtr == NULL) {
	learningPtr = NotifierNew();
	Tcl_ThreadAlert(Tcl_GetCurrentThread());
	learningPtr = NULL;
	currentPtr->alerted = 1;	/* Perhaps, under the name that nobody knew. */
    }
    return currentPtr;
}

static void
AlertNotifier(void *keyPtr)
{
    if (learningPtr != NULL) {
	learningPtr->keyPtr = keyPtr;
	return;
    }
    IocpMutexLock(&mutex);
    for (Notifier *notifierPtr = notifiersPtr; notifierPtr != NULL;
	    notifierPtr = notifierPtr->nextPtr) {
	if (notifierPtr->keyPtr == keyPtr && notifierPtr->setPtr != NULL) {
	    IocpPollSetAlert(notifierPtr->setPtr);
	} else if (notifierPtr->keyPtr == keyPtr) {
	    notifierPtr->alerted = 1;
	}
    }
    IocpMutexUnlock(&mutex);
}

static void
FinalizeNotifier(void *keyPtr)
{
    (void)keyPtr;
    if (currentPtr != NULL) {
	IocpThreadKeySet(threadEnd, NULL);
	NotifierFree(currentPtr);
    }
}

/*
 * WatchHandler --
 *	Have the poll set watch for what the handler wants. If the set does not know the file, it
 *	may know another that had the number before, and lives on as a copy: a new serial tells the
 *	two apart.
 */
static void
WatchHandler(Notifier *notifierPtr, FileHandler *handlerPtr)
{
    int events = ((handlerPtr->mask & TCL_READABLE) ? POLLIN : 0)
	    | ((handlerPtr->mask & TCL_WRITABLE) ? POLLOUT : 0)
	    | ((handlerPtr->mask & TCL_EXCEPTION) ? POLLPRI : 0);
    int result = IocpPollSetChange(notifierPtr->setPtr, handlerPtr->fd, handlerPtr->serial,
	    events);
    int always, lacking;

    if (result == -ENOENT && events != 0) {
	handlerPtr->serial = ++notifierPtr->serial;
	result = IocpPollSetAdd(notifierPtr->setPtr, handlerPtr->fd, handlerPtr->serial, events);
    }
    always = result == -EPERM && (handlerPtr->mask & (TCL_READABLE | TCL_WRITABLE)) != 0;
    notifierPtr->alwaysCount += always - handlerPtr->always;
    handlerPtr->always = always;
    lacking = result == -ENOMEM || result == -ENOSPC;
    if (lacking && notifierPtr->lackingCount == 0) {
	notifierPtr->retryDue = IocpNow() + RETRY_NS;
    }
    notifierPtr->lackingCount += lacking - handlerPtr->lacking;
    handlerPtr->lacking = lacking;
}

static void
WatchLacking(Notifier *notifierPtr)
{
    Tcl_HashSearch search;

    notifierPtr->retryDue = IocpNow() + RETRY_NS;
    for (Tcl_HashEntry *entryPtr = Tcl_FirstHashEntry(&notifierPtr->handlers, &search);
	    entryPtr != NULL; entryPtr = Tcl_NextHashEntry(&search)) {
	FileHandler *handlerPtr = Tcl_GetHashValue(entryPtr);

	if (handlerPtr->lacking) {
	    WatchHandler(notifierPtr, handlerPtr);
	}
    }
}

/*
 * Settle --
 *	See to it that there is a poll set of the thread's own with all handlers in it.
 * Results:
 *	0: there is none, for want of descriptors. Handlers wait until there is.
 */
static int
Settle(Notifier *notifierPtr)
{
    IocpPollSet *newPtr, *oldPtr = notifierPtr->setPtr;
    Tcl_HashSearch search;

    if (oldPtr != NULL && !notifierPtr->stale) {
	return 1;
    }
    newPtr = IocpPollSetNew();
    IocpMutexLock(&mutex);
    notifierPtr->setPtr = newPtr;
    notifierPtr->alerted |= oldPtr != NULL;	/* There may be an alert in it. */
    if (newPtr != NULL && notifierPtr->alerted) {
	notifierPtr->alerted = 0;
	IocpPollSetAlert(newPtr);
    }
    IocpMutexUnlock(&mutex);
    notifierPtr->stale = 0;
    if (oldPtr != NULL) {
	IocpThreadUnattend();
	IocpPollSetFree(oldPtr);
    }
    if (newPtr == NULL) {
	return 0;
    }
    for (Tcl_HashEntry *entryPtr = Tcl_FirstHashEntry(&notifierPtr->handlers, &search);
	    entryPtr != NULL; entryPtr = Tcl_NextHashEntry(&search)) {
	WatchHandler(notifierPtr, Tcl_GetHashValue(entryPtr));
    }
    return 1;
}

/*
 * InitNotifier --
 *	Tcl begins in a thread. The poll set is made when it is needed, if it cannot be now.
 */
static void *
InitNotifier(void)
{
    if (currentPtr == NULL) {
	Settle(NotifierNew());
    }
    return currentPtr->keyPtr;
}

/*
 * IocpNotifierRest --
 *	Nobody in the thread uses the driver any more: without handlers, its poll set is not needed
 *	before Tcl's event loop runs here again, if ever.
 */
void
IocpNotifierRest(void)
{
    Notifier *notifierPtr = currentPtr;
    IocpPollSet *setPtr;

    if (notifierPtr != NULL && notifierPtr->handlers.numEntries == 0) {
	IocpMutexLock(&mutex);
	setPtr = notifierPtr->setPtr;
	notifierPtr->setPtr = NULL;
	notifierPtr->alerted |= setPtr != NULL;	/* There may be an alert in it. */
	IocpMutexUnlock(&mutex);
	if (setPtr != NULL) {
	    IocpPollSetFree(setPtr);
	}
    }
}

static FileHandler *
FindHandler(Notifier *notifierPtr, int fd)
{
    Tcl_HashEntry *entryPtr = Tcl_FindHashEntry(&notifierPtr->handlers, (void *)(intptr_t)fd);

    return entryPtr == NULL ? NULL : Tcl_GetHashValue(entryPtr);
}

static void
CreateFileHandler(int fd, int mask, Tcl_FileProc *proc, void *clientData)
{
    Notifier *notifierPtr = Current();
    FileHandler *handlerPtr = FindHandler(notifierPtr, fd);
    int isNew;

    if (handlerPtr == NULL) {
	handlerPtr = calloc(1, sizeof(FileHandler));
	if (handlerPtr == NULL) {
	    Tcl_Panic("iocp: out of memory for a file handler");
	}
	handlerPtr->fd = fd;
	handlerPtr->serial = ++notifierPtr->serial;
	Tcl_SetHashValue(Tcl_CreateHashEntry(&notifierPtr->handlers, (void *)(intptr_t)fd, &isNew),
		handlerPtr);
    }
    handlerPtr->proc = proc;
    handlerPtr->clientData = clientData;
    handlerPtr->mask = mask;

    /*
     * Even if it is for the same as before: the number may be another file's meanwhile.
     */

    if (Settle(notifierPtr)) {
	WatchHandler(notifierPtr, handlerPtr);
    }
}

static void
DeleteFileHandler(int fd)
{
    Notifier *notifierPtr = Current();
    FileHandler *handlerPtr = FindHandler(notifierPtr, fd);

    if (handlerPtr == NULL) {
	return;
    }
    notifierPtr->alwaysCount -= handlerPtr->always;
    notifierPtr->lackingCount -= handlerPtr->lacking;
    if (!handlerPtr->always && Settle(notifierPtr)) {
	IocpPollSetChange(notifierPtr->setPtr, fd, 0, 0);
    }
    Tcl_DeleteHashEntry(Tcl_FindHashEntry(&notifierPtr->handlers, (void *)(intptr_t)fd));
    free(handlerPtr);
}

static int
FileEventProc(Tcl_Event *eventPtr, int flags)
{
    FileHandler *handlerPtr;
    int mask;

    if (!(flags & TCL_FILE_EVENTS)) {
	return 0;
    }
    handlerPtr = FindHandler(Current(), ((FileEvent *)eventPtr)->fd);
    if (handlerPtr != NULL) {
	mask = handlerPtr->readyMask & handlerPtr->mask;
	handlerPtr->readyMask = 0;
	if (mask != 0) {
	    handlerPtr->proc(handlerPtr->clientData, mask);
	}
    }
    return 1;
}

/*
 * Ready --
 *	A handler's descriptor is ready: one event in Tcl's queue, however often it is found so.
 */
static void
Ready(FileHandler *handlerPtr, int mask)
{
    if (handlerPtr->readyMask == 0) {
	FileEvent *eventPtr = (FileEvent *)Tcl_Alloc(sizeof(FileEvent));

	eventPtr->header.proc = FileEventProc;
	eventPtr->fd = handlerPtr->fd;
	Tcl_QueueEvent(&eventPtr->header, TCL_QUEUE_TAIL);
    }
    handlerPtr->readyMask = mask;
}

static void
Fetch(Notifier *notifierPtr, int64_t timeoutNs)
{
    IocpPolled polled[FETCH_MAX];
    int count = IocpPollSetFetch(notifierPtr->setPtr, polled, FETCH_MAX, timeoutNs);

    for (int i = 0; i < count; i++) {
	FileHandler *handlerPtr = FindHandler(notifierPtr, polled[i].fd);
	int mask = ((polled[i].events & POLLIN) ? TCL_READABLE : 0)
		| ((polled[i].events & POLLOUT) ? TCL_WRITABLE : 0)
		| ((polled[i].events & POLLPRI) ? TCL_EXCEPTION : 0);

	if (handlerPtr == NULL || handlerPtr->serial != polled[i].serial) {
	    notifierPtr->stale = 1;	/* Closed before its handler was deleted. */
	} else {
	    mask &= handlerPtr->mask;
	    Ready(handlerPtr, mask != 0 ? mask : handlerPtr->mask);	/* 0: a hang-up. */
	}
    }
}

static void
FetchAlways(Notifier *notifierPtr)
{
    Tcl_HashSearch search;

    for (Tcl_HashEntry *entryPtr = Tcl_FirstHashEntry(&notifierPtr->handlers, &search);
	    entryPtr != NULL; entryPtr = Tcl_NextHashEntry(&search)) {
	FileHandler *handlerPtr = Tcl_GetHashValue(entryPtr);
	int mask = handlerPtr->mask & (TCL_READABLE | TCL_WRITABLE);

	if (handlerPtr->always && mask != 0) {
	    Ready(handlerPtr, mask);
	}
    }
}

/*
 * Nanoseconds --
 *	A time of Tcl's, by a clock that a host may have slowed down (Tcl_SetTimeProc); -1: for
 *	ever.
 */
static int64_t
Nanoseconds(const Tcl_Time *timePtr)
{
    Tcl_ScaleTimeProc *scaleProc;
    void *clientData;
    Tcl_Time time;

    if (timePtr == NULL) {
	return -1;
    }
    time = *timePtr;
    if (time.sec > FOREVER_SECONDS) {
	return -1;
    }
    if (time.sec != 0 || time.usec != 0) {
	Tcl_QueryTimeProc(NULL, &scaleProc, &clientData);
	scaleProc(&time, clientData);
    }
    return (int64_t)time.sec * IOCP_SECOND + (int64_t)time.usec * 1000;
}

static int
WaitForEvent(const Tcl_Time *timePtr)
{
    Notifier *notifierPtr = Current();
    int settled = Settle(notifierPtr);
    int64_t timeoutNs = notifierPtr->alwaysCount > 0 ? 0 : Nanoseconds(timePtr);

    if (settled && notifierPtr->lackingCount > 0 && IocpNow() >= notifierPtr->retryDue) {
	WatchLacking(notifierPtr);
    }
    if ((!settled || notifierPtr->lackingCount > 0) && (timeoutNs < 0 || timeoutNs > RETRY_NS)) {
	timeoutNs = RETRY_NS;
    }
    switch (IocpThreadHost(settled ? IocpPollSetFd(notifierPtr->setPtr) : -1, timeoutNs)) {
    case IOCP_HOST_NO_ENGINE:
	if (settled) {
	    Fetch(notifierPtr, timeoutNs);
	} else {
	    IocpSleep(timeoutNs);
	}
	break;
    case IOCP_HOST_ATTEND:
	Fetch(notifierPtr, 0);
	break;
    case IOCP_HOST_NOTHING:
	break;
    }
    if (notifierPtr->alwaysCount > 0) {
	FetchAlways(notifierPtr);
    }
    return 0;
}

/*
 * SetTimer, ServiceModeHook --
 *	For loops that are not Tcl's own. Tcl_DoOneEvent, the only one here, says how long to wait.
 */
static void
SetTimer(const Tcl_Time *timePtr)
{
    (void)timePtr;
}

static void
ServiceModeHook(int mode)
{
    (void)mode;
}

static void
NoHandler(void *clientData, int mask)
{
    (void)clientData;
    (void)mask;
}

/*
 * WatchAgain --
 *	The channels of an interpreter have given their descriptors to Tcl's own notifier: let each
 *	of them ask anew, since it asks whenever its handlers change.
 */
static void
WatchAgain(Tcl_Interp *interp)
{
    Tcl_Obj *listPtr, **names;
    Tcl_Size count;

    Tcl_GetChannelNames(interp);
    listPtr = Tcl_GetObjResult(interp);
    Tcl_IncrRefCount(listPtr);
    if (Tcl_ListObjGetElements(NULL, listPtr, &count, &names) == TCL_OK) {
	for (Tcl_Size i = 0; i < count; i++) {
	    Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(names[i]), NULL);

	    if (channel != NULL) {
		Tcl_CreateChannelHandler(channel, 0, NoHandler, NULL);
		Tcl_DeleteChannelHandler(channel, NoHandler, NULL);
	    }
	}
    }
    Tcl_DecrRefCount(listPtr);
    Tcl_ResetResult(interp);
}

/*
 * Occupied --
 *	Whether a channel of the core's has given Tcl's own notifier what WatchAgain cannot have it
 *	give again: a server its socket, a client one that is not connected yet.
 * Results:
 *	NULL; or what there is, in words.
 */
static const char *
Occupied(Tcl_Interp *interp)
{
    const char *reason = NULL;
    Tcl_Obj *listPtr, **names;
    Tcl_Size count;

    Tcl_GetChannelNames(interp);
    listPtr = Tcl_GetObjResult(interp);
    Tcl_IncrRefCount(listPtr);
    if (Tcl_ListObjGetElements(NULL, listPtr, &count, &names) != TCL_OK) {
	count = 0;
    }
    for (Tcl_Size i = 0; i < count && reason == NULL; i++) {
	Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(names[i]), NULL);
	int listening = 0;
	socklen_t length = sizeof(listening);
	Tcl_DString connecting;
	void *handle;

	if (channel == NULL || Tcl_GetChannelType(channel) == &iocpChannelType) {
	    continue;
	}
	if (Tcl_GetChannelHandle(channel, TCL_READABLE, &handle) == TCL_OK
		&& getsockopt((int)(intptr_t)handle, SOL_SOCKET, SO_ACCEPTCONN, &listening,
		&length) == 0 && listening) {
	    reason = "a server of \"socket\" waits for connections already";
	}
	Tcl_DStringInit(&connecting);
	if (strcmp(Tcl_ChannelName(Tcl_GetChannelType(channel)), "tcp") == 0
		&& Tcl_GetChannelOption(NULL, channel, "-connecting", &connecting) == TCL_OK
		&& strcmp(Tcl_DStringValue(&connecting), "1") == 0) {
	    reason = "a client of \"socket\" is connecting";
	}
	Tcl_DStringFree(&connecting);
    }
    Tcl_DecrRefCount(listPtr);
    Tcl_ResetResult(interp);
    return reason;
}

/*
 * MayHost --
 *	Whether nobody has given anything to Tcl's own notifier that would be lost, as far as can be
 *	told.
 * Results:
 *	NULL; or why not.
 */
static const char *
MayHost(Tcl_Interp *interp)
{
    Tcl_Obj *namesPtr;
    Tcl_Size count = 0;

    if (Tcl_GetParent(interp) != NULL) {
	return "another interpreter was here before";
    }
    if (Tcl_PkgPresent(interp, "Tk", NULL, 0) != NULL) {
	return "Tk is loaded";
    }
    if (IocpThreadCount() > 1) {
	return "other threads run already";
    }
    if (Tcl_PkgPresent(interp, "Thread", NULL, 0) != NULL
	    && Tcl_EvalEx(interp, "::thread::names", -1, TCL_EVAL_GLOBAL) == TCL_OK) {
	namesPtr = Tcl_GetObjResult(interp);
	if (Tcl_ListObjLength(NULL, namesPtr, &count) == TCL_OK && count > 1) {
	    return "other threads run already";
	}
    }
    return Occupied(interp);
}

/*
 * IocpNotifierHost --
 *	Give Tcl's event loop to the driver, for the rest of the process, as the command asks for.
 * Results:
 *	TCL_ERROR with a message in interp if that comes too late.
 */
int
IocpNotifierHost(Tcl_Interp *interp, const char *command)
{
    static Tcl_NotifierProcs procs = {
	.setTimerProc = SetTimer,
	.waitForEventProc = WaitForEvent,
	.createFileHandlerProc = CreateFileHandler,
	.deleteFileHandlerProc = DeleteFileHandler,
	.initNotifierProc = InitNotifier,
	.finalizeNotifierProc = FinalizeNotifier,
	.alertNotifierProc = AlertNotifier,
	.serviceModeHookProc = ServiceModeHook
    };

    const char *reason = MayHost(interp);

    if (reason != NULL) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("cannot change the notifier: %s; \"%s ring\""
		" must come first, or not at all", reason, command));
	return TCL_ERROR;
    }
    IocpThreadKeyNew(&threadEnd, NotifierFree);
    IocpAtFork(ForkedChild);
    IocpThreadUnwatch();
    Tcl_SetNotifier(&procs);
    atomic_store(&hosting, 1);
    Current();
    WatchAgain(interp);
    return TCL_OK;
}
