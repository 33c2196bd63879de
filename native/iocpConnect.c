/*
 * iocpConnect.c --
 *	Clients: every address of the host is tried with every local address of its family, until
 *	one answers. In the foreground the engine is driven until then; with -async the event loop
 *	does it, and a name is looked up by another thread meanwhile.
 */

#include "iocpInt.h"

/*
 * An engine does not wake for the answer of a resolver: a blocking channel looks for it this often,
 * the less the longer it takes.
 */
#define LOOKUP_MS_MAX 16

void
IocpConnectFree(IocpChan *chanPtr)
{
    IocpConnect *connectPtr = chanPtr->connectPtr;

    if (connectPtr != NULL) {
	if (connectPtr->resolvePtr != NULL) {
	    IocpResolveFree(connectPtr->resolvePtr);
	}
	for (int i = 0; i < IOCP_QUERIES_MAX; i++) {
	    IocpQueryFree(&connectPtr->queries[i]);
	}
	IocpFree(chanPtr->threadPtr, connectPtr, sizeof(IocpConnect));
	chanPtr->connectPtr = NULL;
    }
}

static void
CloseAttempt(IocpChan *chanPtr)
{
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;

    if (chanPtr->handle.fd != IOCP_NO_SOCKET) {
	enginePtr->typePtr->detachProc(enginePtr, &chanPtr->handle);
	IocpSocketClose(chanPtr->handle.fd);
	chanPtr->handle.fd = IOCP_NO_SOCKET;
    }
}

/*
 * IocpConnectStart --
 *	Submit the attempt, unless it is in flight already, or has no address yet.
 */
void
IocpConnectStart(IocpChan *chanPtr)
{
    if (chanPtr->state == IOCP_CONNECTING && !chanPtr->connectPtr->connectOp.op.inFlight
	    && chanPtr->connectPtr->resolvePtr == NULL && !(chanPtr->flags & IOCP_CHANF_DETACHED)) {
	IocpOpSubmit(chanPtr, &chanPtr->connectPtr->connectOp.op);
    }
}

/*
 * Attempt --
 *	Try the current pair of addresses.
 * Results:
 *	0: about to be in flight. Otherwise the errno that the attempt failed with.
 */
static int
Attempt(IocpChan *chanPtr)
{
    IocpConnect *connectPtr = chanPtr->connectPtr;
    struct addrinfo *remotePtr = connectPtr->remoteNextPtr, *localPtr = connectPtr->localNextPtr;
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;

    CloseAttempt(chanPtr);
    chanPtr->handle.fd = IocpSocketNew(remotePtr->ai_family, chanPtr->settingsPtr);
    if (chanPtr->handle.fd == IOCP_NO_SOCKET) {
	return errno;
    }
    enginePtr->typePtr->attachProc(enginePtr, &chanPtr->handle);

    /*
     * So that a server may have the port that the kernel chooses here, with us and after us.
     */

    IocpSocketSet(chanPtr->handle.fd, IOCP_SO_REUSEADDR, 1);
    if (localPtr != NULL && IocpSocketBind(chanPtr->handle.fd, localPtr->ai_addr,
	    (socklen_t)localPtr->ai_addrlen) < 0) {
	return errno;
    }
    connectPtr->connectOp = (IocpConnectOp){
	.op = {
	    .kind = IOCP_OP_CONNECT, .ownerPtr = chanPtr, .handlePtr = &chanPtr->handle
	},
	.addrPtr = remotePtr->ai_addr, .addrLen = (socklen_t)remotePtr->ai_addrlen
    };
    IocpEventDirty(chanPtr);
    return 0;
}

/*
 * Advance --
 *	Go to the next pair of addresses of one family.
 * Results:
 *	0 when there is none.
 */
static int
Advance(IocpConnect *connectPtr)
{
    do {
	if (connectPtr->localNextPtr != NULL && connectPtr->localNextPtr->ai_next != NULL) {
	    connectPtr->localNextPtr = connectPtr->localNextPtr->ai_next;
	} else {
	    connectPtr->localNextPtr = connectPtr->localPtr;
	    connectPtr->remoteNextPtr = connectPtr->remoteNextPtr == NULL
		    ? connectPtr->remotePtr : connectPtr->remoteNextPtr->ai_next;
	}
    } while (connectPtr->remoteNextPtr != NULL && connectPtr->localNextPtr != NULL
	    && connectPtr->localNextPtr->ai_family != connectPtr->remoteNextPtr->ai_family);
    return connectPtr->remoteNextPtr != NULL;
}

/*
 * Next --
 *	Try the addresses that are left until an attempt is in flight.
 * Results:
 *	0; or the errno of the last attempt: none is left.
 */
static int
Next(IocpChan *chanPtr)
{
    IocpConnect *connectPtr = chanPtr->connectPtr;

    while (Advance(connectPtr)) {
	connectPtr->error = Attempt(chanPtr);
	if (connectPtr->error == 0) {
	    return 0;
	}
    }
    return connectPtr->error;
}

void
IocpConnectFail(IocpChan *chanPtr, int error)
{
    IocpConnectFree(chanPtr);
    chanPtr->state = IOCP_FAILED;
    chanPtr->flags |= IOCP_CHANF_CONNECTED;
    IocpChanError(chanPtr, error);
    IOCP_COUNT(chanPtr->threadPtr, connectErrors, 1);
}

/*
 * FailedQuery --
 *	The one that has no answer, or NULL.
 */
static const IocpQuery *
FailedQuery(const IocpConnect *connectPtr)
{
    for (int i = 0; i < IOCP_QUERIES_MAX; i++) {
	if (connectPtr->queries[i].result != 0) {
	    return &connectPtr->queries[i];
	}
    }
    return NULL;
}

/*
 * First --
 *	The queries are answered: try the first addresses.
 * Results:
 *	As those of Next.
 */
static int
First(IocpChan *chanPtr)
{
    IocpConnect *connectPtr = chanPtr->connectPtr;

    connectPtr->remotePtr = connectPtr->queries[0].listPtr;
    connectPtr->localPtr = connectPtr->queries[1].listPtr;
    return Next(chanPtr);
}

/*
 * Resolved --
 *	Called from the event loop, or before that by whoever wants to know how far the channel is:
 *	if the names are looked up, go on with the addresses. A name without any is an error of the
 *	connection like others.
 */
static void
Resolved(void *clientData)
{
    IocpChan *chanPtr = clientData;
    IocpConnect *connectPtr = chanPtr->connectPtr;
    const IocpQuery *queryPtr;
    int error;

    if (!IocpResolveTake(connectPtr->resolvePtr, connectPtr->queries)) {
	return;
    }
    IocpResolveFree(connectPtr->resolvePtr);
    connectPtr->resolvePtr = NULL;
    queryPtr = FailedQuery(connectPtr);
    if (queryPtr == NULL) {
	error = First(chanPtr);
    } else if (queryPtr->result == EAI_SYSTEM) {
	error = queryPtr->error;
    } else {
	chanPtr->lookupError = queryPtr->result;
	error = EHOSTUNREACH;
    }
    if (error != 0) {
	IocpConnectFail(chanPtr, error);
	IocpEventTell(chanPtr);
    }
}

static void
PollLookup(IocpChan *chanPtr)
{
    if (chanPtr->state == IOCP_CONNECTING && chanPtr->connectPtr->resolvePtr != NULL) {
	Resolved(chanPtr);
    }
}

/*
 * IocpConnectLeave --
 *	The channel leaves its thread.
 */
void
IocpConnectLeave(IocpChan *chanPtr)
{
    if (chanPtr->connectPtr != NULL && chanPtr->connectPtr->resolvePtr != NULL) {
	IocpResolveLeave(chanPtr->connectPtr->resolvePtr);
    }
}

/*
 * IocpConnectDone --
 *	An attempt has an end.
 */
void
IocpConnectDone(IocpChan *chanPtr, const IocpCompletion *compPtr)
{
    int error = -compPtr->result;

    if (chanPtr->state != IOCP_CONNECTING) {
	IocpConnectFree(chanPtr);
	return;
    }
    if (chanPtr->flags & IOCP_CHANF_DETACHED && error == ECANCELED) {
	return;			/* IocpConnectAgain takes it up in the other thread. */
    }
    if (error == 0) {
	IocpConnectFree(chanPtr);
	chanPtr->state = IOCP_OPEN;
	chanPtr->flags |= IOCP_CHANF_CONNECTED;
	IOCP_COUNT(chanPtr->threadPtr, connects, 1);
	IocpEventDirty(chanPtr);
	if (chanPtr->flags & IOCP_CHANF_SHUT_PENDING) {
	    IocpSendShutdown(chanPtr);
	}
    } else {
	chanPtr->connectPtr->error = error;
	error = Next(chanPtr);
	if (error == 0) {
	    return;
	}
	IocpConnectFail(chanPtr, error);
    }
    IocpEventTell(chanPtr);
}

/*
 * IocpConnectAgain --
 *	The channel has come from another thread, which had to break the attempt off: start it
 *	again. A lookup has gone on meanwhile.
 */
void
IocpConnectAgain(IocpChan *chanPtr)
{
    int error;

    if (chanPtr->connectPtr->resolvePtr != NULL) {
	IocpResolveJoin(chanPtr->connectPtr->resolvePtr);
	PollLookup(chanPtr);
	return;
    }
    error = Attempt(chanPtr);
    if (error != 0) {
	chanPtr->connectPtr->error = error;
	error = Next(chanPtr);
	if (error != 0) {
	    IocpConnectFail(chanPtr, error);
	}
    }
}

/*
 * IocpConnectWait --
 *	A channel that is not open is read or written (errorCodePtr not NULL: a blocking channel
 *	waits), or asked for an option (NULL: see how far it is, as a script may that never enters
 *	the event loop).
 * Results:
 *	0 if it is open; -1 and *errorCodePtr otherwise: EAGAIN, EINTR after a signal, or ENOTCONN
 *	when the attempt has failed, or is the parent's of a forked process.
 */
int
IocpConnectWait(IocpChan *chanPtr, int *errorCodePtr)
{
    IocpThread *threadPtr = chanPtr->threadPtr;
    int wait = errorCodePtr != NULL && !(chanPtr->flags & IOCP_CHANF_NONBLOCKING)
	    && !threadPtr->forked;
    int lookupMs = 1;
    uint64_t end = threadPtr->exiting
	    ? IocpThreadLingerEnd(threadPtr, chanPtr->settingsPtr->lingerSeconds) : UINT64_MAX;

    PollLookup(chanPtr);
    if (chanPtr->state == IOCP_CONNECTING && !wait && !IocpThreadMayDefer(chanPtr)) {
	IocpThreadReap(threadPtr);
    }
    while (chanPtr->state == IOCP_CONNECTING && wait && IocpNow() < end) {
	int64_t timeoutNs = threadPtr->exiting ? IOCP_EXIT_WAIT : -1;

	if (chanPtr->connectPtr->resolvePtr != NULL) {
	    timeoutNs = lookupMs * (int64_t)IOCP_MS;
	    lookupMs = lookupMs < LOOKUP_MS_MAX ? 2 * lookupMs : LOOKUP_MS_MAX;
	}
	if (IocpThreadWait(threadPtr, timeoutNs) == -EINTR
		&& chanPtr->state == IOCP_CONNECTING) {
	    *errorCodePtr = EINTR;
	    return -1;
	}
	PollLookup(chanPtr);
    }
    if (chanPtr->state == IOCP_OPEN) {
	return 0;
    }
    if (errorCodePtr != NULL) {
	*errorCodePtr = chanPtr->state == IOCP_CONNECTING && !threadPtr->forked
		? EAGAIN : ENOTCONN;
    }
    return -1;
}

/*
 * IocpOpenClient --
 *	Tcl_OpenTcpClient on the driver. myaddr may be NULL, myport 0. async: return at once; how
 *	it went is told by a writable event, -connecting and -error.
 * Results:
 *	A channel that is not registered yet; or NULL with a message in interp, which may be NULL.
 */
Tcl_Channel
IocpOpenClient(Tcl_Interp *interp, int port, const char *host, const char *myaddr, int myport,
	int async, const IocpSettings *settingsPtr)
{
    char reason[256];
    IocpThread *threadPtr = IocpThreadGet(reason, sizeof(reason));
    IocpConnect *connectPtr;
    IocpChan *chanPtr;
    int count = myaddr != NULL || myport != 0 ? 2 : 1, asked = 0, error = 0;

    if (threadPtr == NULL) {
	if (interp != NULL) {
	    Tcl_SetObjResult(interp, Tcl_NewStringObj(reason, -1));
	}
	return NULL;
    }
    chanPtr = IocpChanNew(threadPtr, IOCP_NO_SOCKET, IOCP_CONNECTING);
    connectPtr = chanPtr == NULL || !IocpSettingsPut(chanPtr, settingsPtr)
	    ? NULL : IocpAlloc(threadPtr, sizeof(IocpConnect));
    if (connectPtr == NULL) {
	if (chanPtr != NULL) {
	    IocpChanClose(chanPtr);
	}
	IocpOpenError(interp, ENOMEM);
	return NULL;
    }
    connectPtr->error = EHOSTUNREACH;
    chanPtr->connectPtr = connectPtr;

    /*
     * What needs no lookup is known at once, and so are its errors. Without memory for another
     * thread to look a name up, it is done here.
     */

    IocpQueryInit(&connectPtr->queries[0], interp, host, port, 0, settingsPtr->protocol);
    if (count > 1) {
	IocpQueryInit(&connectPtr->queries[1], interp, myaddr, myport, 1, settingsPtr->protocol);
    }
    for (int i = 0; i < count; i++) {
	asked |= async && !IocpQueryTry(&connectPtr->queries[i]);
    }
    if (asked && FailedQuery(connectPtr) == NULL) {
	connectPtr->resolvePtr = IocpResolveStart(connectPtr->queries, count, Resolved, chanPtr);
    }
    if (connectPtr->resolvePtr == NULL) {
	for (int i = 0; i < count; i++) {
	    IocpQueryRun(&connectPtr->queries[i]);
	}
	if (FailedQuery(connectPtr) != NULL) {
	    IocpQueryOpenError(interp, FailedQuery(connectPtr));
	    IocpChanClose(chanPtr);
	    return NULL;
	}
	error = First(chanPtr);
	if (error != 0) {
	    IocpConnectFail(chanPtr, error);
	}
    }
    if (async) {
	IocpConnectWait(chanPtr, NULL);
    } else {
	IocpConnectWait(chanPtr, &error);
    }
    if (error != 0) {
	error = chanPtr->state == IOCP_FAILED ? chanPtr->error : error;
	IocpChanClose(chanPtr);
	IocpOpenError(interp, error);
	return NULL;
    }
    return IocpChanCreate(interp, chanPtr, TCL_READABLE | TCL_WRITABLE) == TCL_OK
	    ? chanPtr->channel : NULL;
}
