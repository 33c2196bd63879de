/*
 * iocpListen.c --
 *	Listeners: one multishot accept for each address; what is accepted waits in a queue and
 *	goes to the accept procedure one connection for each event, so that other events get their
 *	turn.
 *
 *	Accepting stops when -backlog connections wait for the script and resumes when half of them
 *	are taken; the kernel's queue holds the rest. (An engine may hand over all that this queue
 *	has before it hears that it is to stop.) It pauses when descriptors or memory run out, and
 *	when it fails for another reason that may last.
 *
 *	A socket that other processes accept from as well (iocpInherit.c) is their queue, too: of
 *	that, one connection at a time is taken, unless -backlog says otherwise, since another
 *	process may be free to serve the next one.
 */

#include "iocpInt.h"

#define PORT_TRIES 50		/* Until port 0 has led to one that is free at each address. */

/*
 * IocpListenArm --
 *	Accept, unless enough is accepted already.
 */
void
IocpListenArm(IocpChan *chanPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;

    if (chanPtr->state != IOCP_LISTENING || chanPtr->waits || (chanPtr->flags & IOCP_CHANF_DETACHED)
	    || !listenerPtr->accepting
	    || listenerPtr->acceptedCount > listenerPtr->backlog / 2) {
	return;
    }
    for (int i = 0; i < listenerPtr->acceptorCount; i++) {
	IocpOp *opPtr = &listenerPtr->acceptors[i].op;

	if (!opPtr->inFlight) {
	    opPtr->bufCount = listenerPtr->backlog - listenerPtr->acceptedCount;
	    IocpOpSubmit(chanPtr, opPtr);
	}
    }
}

/*
 * OfOneConnection --
 *	Whether accepting has failed for the sake of a peer that has gone again, or of the network
 *	on its way, and is to go on, as accept(2) advises; or was broken off.
 */
static int
OfOneConnection(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case EINTR:
    case ECANCELED:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
	return 1;
    default:
	return 0;
    }
}

/*
 * IocpListenQueue --
 *	A connection is for the accept procedure: its descriptor, or its channel, which has one.
 * Results:
 *	0 if out of memory: it still is the caller's.
 */
int
IocpListenQueue(IocpChan *chanPtr, IocpSocket fd, IocpChan *newPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpAccepted *acceptedPtr = IocpAlloc(chanPtr->threadPtr, sizeof(IocpAccepted));

    if (acceptedPtr == NULL) {
	return 0;
    }
    acceptedPtr->fd = fd;
    acceptedPtr->chanPtr = newPtr;
    if (listenerPtr->lastPtr != NULL) {
	listenerPtr->lastPtr->nextPtr = acceptedPtr;
    } else {
	listenerPtr->firstPtr = acceptedPtr;
    }
    listenerPtr->lastPtr = acceptedPtr;
    listenerPtr->acceptedCount++;
    IOCP_COUNT(chanPtr->threadPtr, socketsOpen, newPtr == NULL);
    IocpEventPost(chanPtr);
    return 1;
}

/*
 * IocpListenDone --
 *	A connection is accepted, or accepting has failed.
 */
void
IocpListenDone(IocpAcceptor *acceptorPtr, const IocpCompletion *compPtr)
{
    IocpChan *chanPtr = acceptorPtr->chanPtr;
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpThread *threadPtr = chanPtr->threadPtr;
    int error;

    if (compPtr->result >= 0) {
	IocpSocket fd = IocpSocketRaise(compPtr->result);

	if (chanPtr->state != IOCP_LISTENING || !IocpListenQueue(chanPtr, fd, NULL)) {
	    IocpSocketClose(fd);
	} else if (listenerPtr->acceptedCount >= listenerPtr->backlog) {
	    IocpOpCancel(chanPtr, &acceptorPtr->op);
	}
    }
    if (chanPtr->state != IOCP_LISTENING || (compPtr->flags & IOCP_COMPF_MORE)) {
	return;
    }
    error = compPtr->result < 0 ? -compPtr->result : 0;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
	IOCP_COUNT(threadPtr, acceptPauses, 1);
    } else if (error != 0 && error != ECANCELED) {
	IOCP_COUNT(threadPtr, acceptErrors, 1);
    }
    if (error == 0 || OfOneConnection(error)) {
	IocpEventDirty(chanPtr);
    } else {
	chanPtr->waits = 1;	/* It may fail at once for ever. */
	IocpThreadRetryLater(threadPtr);
    }
}

/*
 * TakeAccepted --
 *	The connection that has waited longest: *fdPtr, and *newPtrPtr if it has a channel.
 * Results:
 *	0 if there is none.
 */
static int
TakeAccepted(IocpChan *chanPtr, IocpSocket *fdPtr, IocpChan **newPtrPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpAccepted *acceptedPtr = listenerPtr->firstPtr;

    if (acceptedPtr == NULL) {
	return 0;
    }
    *newPtrPtr = acceptedPtr->chanPtr;
    *fdPtr = *newPtrPtr != NULL ? (*newPtrPtr)->handle.fd : acceptedPtr->fd;
    listenerPtr->firstPtr = acceptedPtr->nextPtr;
    if (listenerPtr->firstPtr == NULL) {
	listenerPtr->lastPtr = NULL;
    }
    listenerPtr->acceptedCount--;
    IOCP_COUNT(chanPtr->threadPtr, socketsOpen, -(*newPtrPtr == NULL));
    IocpFree(chanPtr->threadPtr, acceptedPtr, sizeof(IocpAccepted));
    return 1;
}

static void
Discard(IocpSocket fd, IocpChan *newPtr)
{
    if (newPtr != NULL) {
	IocpChanDrop(newPtr);
    } else {
	IocpSocketClose(fd);
    }
}

/*
 * IocpListenDeliver --
 *	Hand one connection to the accept procedure. Connections that were reset before anybody
 *	took them are dropped and counted: no script can do anything with them but log an error.
 */
void
IocpListenDeliver(IocpChan *chanPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpThread *threadPtr = chanPtr->threadPtr;
    IocpSockaddr addr;
    socklen_t length;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    IocpChan *newPtr;
    IocpSocket fd;

    if (listenerPtr->moved && listenerPtr->acceptProc == IocpAcceptProc) {
	if (!IocpAcceptTakeOn(listenerPtr->acceptData, chanPtr)) {
	    /*
	     * They wait for an interpreter that loads the package (IocpThreadAddInterp), or for one
	     * that has it to get the listener, of which Tcl tells nobody.
	     */

	    if (threadPtr->interpsPtr != NULL) {
		IocpThreadRetryLater(threadPtr);
	    }
	    return;
	}
	listenerPtr->moved = 0;
    }
    IocpEventDirty(chanPtr);	/* Accepting may resume when some are taken. */
    for (;;) {
	if (!TakeAccepted(chanPtr, &fd, &newPtr)) {
	    return;
	}
	if (newPtr == NULL && chanPtr->settingsPtr->proxyProtocol) {
	    if (!IocpProxyBegin(chanPtr, fd)) {
		IocpSocketClose(fd);
		IOCP_COUNT(threadPtr, acceptErrors, 1);
	    }
	    continue;
	}
	length = sizeof(addr);
	if (IocpSocketPeer(fd, &addr.sa, &length) == 0) {
	    break;
	}
	Discard(fd, newPtr);
	IOCP_COUNT(threadPtr, acceptsDead, 1);
    }
    if (newPtr != NULL && newPtr->proxyPtr->addrs.known) {
	addr = newPtr->proxyPtr->addrs.peer;
	length = IocpAddrLength(&addr);
    }

    /*
     * Before the script, which may enter the event loop, or close the listener.
     */

    if (listenerPtr->firstPtr != NULL) {
	IocpEventPost(chanPtr);
    }
    if (newPtr == NULL) {
	newPtr = IocpChanNew(threadPtr, fd, IOCP_OPEN);
    }
    if (newPtr == NULL) {
	IocpSocketClose(fd);
	IOCP_COUNT(threadPtr, acceptErrors, 1);
	return;
    }
    IocpSettingsShare(newPtr, chanPtr);
    if (!IocpTimeoutWatch(newPtr)) {
	IocpChanClose(newPtr);
	IOCP_COUNT(threadPtr, acceptErrors, 1);
    } else if (IocpChanCreate(NULL, newPtr, TCL_READABLE | TCL_WRITABLE) == TCL_OK) {
	newPtr->flags |= IOCP_CHANF_ACCEPTED;
	IocpSocketInherit(fd, newPtr->settingsPtr);
	IocpThreadBusyPoll(newPtr, newPtr->settingsPtr->busyPollUs);
	IocpEventDirty(newPtr);	/* Its mode may call for a receive at once. */
	IOCP_COUNT(threadPtr, accepts, 1);
	getnameinfo(&addr.sa, length, host, sizeof(host), port, sizeof(port),
		NI_NUMERICHOST | NI_NUMERICSERV);
	listenerPtr->acceptProc(listenerPtr->acceptData, newPtr->channel, host, atoi(port));
    }
}

/*
 * IocpListenAccepting --
 *	Go on accepting, or stop: then what the kernel has handed over is in the queue, goes to the
 *	accept procedure, and is all that goes there.
 */
void
IocpListenAccepting(IocpChan *chanPtr, int accepting)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;

    listenerPtr->accepting = accepting;
    if (accepting) {
	IocpEventDirty(chanPtr);
	return;
    }
    for (int i = 0; i < listenerPtr->acceptorCount; i++) {
	IocpOpCancel(chanPtr, &listenerPtr->acceptors[i].op);
    }
    while (chanPtr->inFlight > 0) {
	IocpThreadWait(chanPtr->threadPtr, -1);
    }
}

/*
 * IocpListenLeave --
 *	The listener leaves its thread. What it has accepted goes along, but for channels, which
 *	have something of the thread's engine.
 */
void
IocpListenLeave(IocpChan *chanPtr)
{
    int count = chanPtr->listenerPtr->acceptedCount;
    IocpChan *newPtr;
    IocpSocket fd;

    IocpProxyClose(chanPtr);
    while (count-- > 0 && TakeAccepted(chanPtr, &fd, &newPtr)) {
	if (newPtr != NULL || !IocpListenQueue(chanPtr, fd, NULL)) {
	    Discard(fd, newPtr);
	}
    }
}

/*
 * IocpListenClose --
 *	The listener is being closed: so is what nobody took.
 */
void
IocpListenClose(IocpChan *chanPtr)
{
    IocpChan *newPtr;
    IocpSocket fd;

    IocpProxyClose(chanPtr);
    while (TakeAccepted(chanPtr, &fd, &newPtr)) {
	Discard(fd, newPtr);
    }
}

/*
 * DropAcceptors --
 *	Close the listening sockets, none of which has an accept in flight.
 */
static void
DropAcceptors(IocpChan *chanPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;

    for (int i = 0; i < listenerPtr->acceptorCount; i++) {
	enginePtr->typePtr->detachProc(enginePtr, &listenerPtr->acceptors[i].handle);
	IocpSocketClose(listenerPtr->acceptors[i].handle.fd);
    }
    listenerPtr->acceptorCount = 0;
}

/*
 * IocpListenFree --
 *	No accept is in flight any more: the listening sockets go.
 */
void
IocpListenFree(IocpChan *chanPtr)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;

    DropAcceptors(chanPtr);
    IocpFree(chanPtr->threadPtr, listenerPtr, sizeof(IocpListener)
	    + (size_t)listenerPtr->acceptorMax * sizeof(IocpAcceptor));
    chanPtr->listenerPtr = NULL;
}

/*
 * AddAcceptor --
 *	The listener gets another listening socket. flags are those of its accepts.
 */
static void
AddAcceptor(IocpChan *chanPtr, IocpSocket fd, unsigned flags)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    IocpEngine *enginePtr = chanPtr->threadPtr->enginePtr;
    IocpAcceptor *acceptorPtr = &listenerPtr->acceptors[listenerPtr->acceptorCount++];

    acceptorPtr->chanPtr = chanPtr;
    acceptorPtr->handle.fd = fd;
    acceptorPtr->op = (IocpOp){
	.kind = IOCP_OP_ACCEPT, .ownerPtr = acceptorPtr, .handlePtr = &acceptorPtr->handle,
	.flags = flags
    };
    enginePtr->typePtr->attachProc(enginePtr, &acceptorPtr->handle);
}

/*
 * AddInherited --
 *	The listener gets the sockets that the process has inherited for its addresses. They have
 *	their queues in the kernel; what else is set is for what they accept.
 * Results:
 *	0 or an errno.
 */
static int
AddInherited(IocpChan *chanPtr, const IocpSocket *fds, int count)
{
    int error = 0;

    for (int i = 0; i < count; i++) {
	AddAcceptor(chanPtr, fds[i], IOCP_OPF_SHARED);
	if (IocpSocketApply(fds[i], chanPtr->settingsPtr) < 0) {
	    error = errno;
	}
    }
    return error;
}

/*
 * How far the opening of an address came; the error of the one that came farthest is told.
 */
typedef enum Stage { STAGE_SOCKET, STAGE_BIND, STAGE_LISTEN, STAGE_DONE } Stage;

/*
 * OpenAddress --
 *	A listening socket on one address, with a queue in the kernel. *portPtr is the port; 0 is
 *	any, and is set to the one that it got.
 * Results:
 *	STAGE_DONE and *fdPtr; or the stage that failed, with errno.
 */
static Stage
OpenAddress(const struct addrinfo *addrPtr, const IocpSettings *settingsPtr, int queue,
	int *portPtr, IocpSocket *fdPtr)
{
    IocpSocket fd = IocpSocketNew(addrPtr->ai_family, settingsPtr);
    IocpSockaddr name;
    socklen_t length = sizeof(name);
    Stage stage = STAGE_DONE;
    int on = 1;

    if (fd == IOCP_NO_SOCKET) {
	return STAGE_SOCKET;
    }
    if (addrPtr->ai_family == AF_INET6) {
	IocpSocketSetopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    memcpy(&name, addrPtr->ai_addr, addrPtr->ai_addrlen);
    name.sa4.sin_port = htons((uint16_t)*portPtr);	/* At the same place for both families. */
    if (IocpSocketBind(fd, &name.sa, (socklen_t)addrPtr->ai_addrlen) < 0) {
	stage = STAGE_BIND;
    } else if (IocpSocketListen(fd, queue) < 0) {
	stage = STAGE_LISTEN;
    } else if (*portPtr == 0 && IocpSocketName(fd, &name.sa, &length) == 0) {
	*portPtr = ntohs(name.sa4.sin_port);
    }
    if (stage != STAGE_DONE) {
	int error = errno;

	IocpSocketClose(fd);
	errno = error;
	return stage;
    }
    *fdPtr = fd;
    return STAGE_DONE;
}

/*
 * ListedBefore --
 *	Whether a list has an address twice, and this is not the first time. (For the name of ::1
 *	in /etc/hosts, the resolver says 127.0.0.1 to those who ask for IPv4.)
 */
static int
ListedBefore(const struct addrinfo *listPtr, const struct addrinfo *addrPtr)
{
    for (; listPtr != addrPtr; listPtr = listPtr->ai_next) {
	if (listPtr->ai_addrlen == addrPtr->ai_addrlen
		&& memcmp(listPtr->ai_addr, addrPtr->ai_addr, addrPtr->ai_addrlen) == 0) {
	    return 1;
	}
    }
    return 0;
}

/*
 * AddOpened --
 *	The listener gets a socket for each address that can be had, all under one port; 0 is one
 *	that is free at each of them.
 * Results:
 *	0; or an errno: of the address that came farthest, where none can be had, or of a reason to
 *	do without all of them. EADDRINUSE with some acceptors: the port that one address got for 0
 *	is taken at another.
 */
static int
AddOpened(IocpChan *chanPtr, const struct addrinfo *listPtr, int port, int queue)
{
    IocpListener *listenerPtr = chanPtr->listenerPtr;
    Stage farthest = STAGE_SOCKET;
    int chosenPort = port, error = 0;

    for (const struct addrinfo *addrPtr = listPtr; addrPtr != NULL; addrPtr = addrPtr->ai_next) {
	IocpSocket fd;
	Stage stage;

	if (ListedBefore(listPtr, addrPtr)) {
	    continue;
	}
	stage = OpenAddress(addrPtr, chanPtr->settingsPtr, queue, &chosenPort, &fd);
	if (stage == STAGE_DONE) {
	    AddAcceptor(chanPtr, fd, 0);
	    continue;
	}
	if (stage == STAGE_SOCKET ? errno != EAFNOSUPPORT
		: errno == EADDRINUSE && port != chosenPort) {
	    /*
	     * A setting is refused, or descriptors are at their end, or the next port may do:
	     * half a listener helps nobody.
	     */

	    return errno;
	}
	if (error == 0 || stage > farthest) {
	    farthest = stage;
	    error = errno;
	}
    }
    return listenerPtr->acceptorCount > 0 ? 0 : error;
}

/*
 * ListenerNew --
 *	A channel that has room for so many listening sockets, and none yet.
 * Results:
 *	The channel; NULL without memory.
 */
static IocpChan *
ListenerNew(IocpThread *threadPtr, const IocpSettings *settingsPtr, int acceptorMax)
{
    IocpChan *chanPtr = IocpChanNew(threadPtr, IOCP_NO_SOCKET, IOCP_LISTENING);

    if (chanPtr == NULL) {
	return NULL;
    }
    if (IocpSettingsPut(chanPtr, settingsPtr)) {
	chanPtr->listenerPtr = IocpAlloc(threadPtr, sizeof(IocpListener)
		+ (size_t)acceptorMax * sizeof(IocpAcceptor));
    }
    if (chanPtr->listenerPtr == NULL) {
	IocpChanClose(chanPtr);
	return NULL;
    }
    chanPtr->listenerPtr->acceptorMax = acceptorMax;
    return chanPtr;
}

/*
 * ListenAt --
 *	Listen on the addresses that can be had, with a queue in the kernel; or with the sockets
 *	that the process has inherited for any of them.
 * Results:
 *	A channel without an accept procedure; or NULL and errno.
 */
static IocpChan *
ListenAt(IocpThread *threadPtr, const struct addrinfo *listPtr, int port, int backlog,
	const IocpSettings *settingsPtr)
{
    IocpSocket inherited[IOCP_INHERITED_MAX];
    int inheritedCount = IocpInheritTake(listPtr, inherited);
    int count = inheritedCount, tries = PORT_TRIES, error = 0;
    const struct addrinfo *addrPtr;
    IocpChan *chanPtr;

    if (inheritedCount < 0) {
	return NULL;
    }
    if (inheritedCount == 0) {
	for (addrPtr = listPtr; addrPtr != NULL; addrPtr = addrPtr->ai_next) {
	    count++;
	}
    }
    chanPtr = ListenerNew(threadPtr, settingsPtr, count);
    if (chanPtr == NULL) {
	for (int i = 0; i < inheritedCount; i++) {
	    IocpSocketClose(inherited[i]);
	}
	errno = ENOMEM;
	return NULL;
    }
    if (inheritedCount > 0) {
	error = AddInherited(chanPtr, inherited, inheritedCount);
	chanPtr->listenerPtr->backlog = backlog > 0 ? backlog : 1;
    } else {
	do {
	    DropAcceptors(chanPtr);
	    error = AddOpened(chanPtr, listPtr, port, backlog > 0 ? backlog : SOMAXCONN);
	} while (error == EADDRINUSE && chanPtr->listenerPtr->acceptorCount > 0 && --tries > 0);
	chanPtr->listenerPtr->backlog = backlog > 0 ? backlog : IOCP_BACKLOG;
    }
    if (error != 0) {
	IocpChanClose(chanPtr);
	errno = error;
	return NULL;
    }
    return chanPtr;
}

/*
 * IocpOpenServer --
 *	Tcl_OpenTcpServer on the driver: listen on all addresses of host (NULL: all of this
 *	machine, IPv4 and IPv6) under one port. acceptProc is called from the event loop with each
 *	connection. backlog is -backlog's, 0 for the default.
 *	If the process has inherited sockets for any of the addresses, these are all that it gets:
 *	whoever opened them has decided where to listen.
 * Results:
 *	A channel that is not registered yet; or NULL with a message in interp, which may be NULL.
 */
Tcl_Channel
IocpOpenServer(Tcl_Interp *interp, int port, const char *host, Tcl_TcpAcceptProc *acceptProc,
	void *acceptData, int backlog, const IocpSettings *settingsPtr)
{
    char reason[256];
    IocpThread *threadPtr = IocpThreadGet(reason, sizeof(reason));
    IocpSettings settings = *settingsPtr;
    IocpQuery query;
    IocpChan *chanPtr;
    int error;

    if (threadPtr == NULL) {
	if (interp != NULL) {
	    Tcl_SetObjResult(interp, Tcl_NewStringObj(reason, -1));
	}
	return NULL;
    }
    if (settings.sockopts[IOCP_SO_REUSEADDR] < 0) {
	settings.sockopts[IOCP_SO_REUSEADDR] = 1;
    }
    IocpQueryInit(&query, interp, host, port, 1, settings.protocol);
    IocpQueryRun(&query);
    if (query.result != 0) {
	IocpQueryOpenError(interp, &query);
	IocpQueryFree(&query);
	return NULL;
    }
    chanPtr = ListenAt(threadPtr, query.listPtr, port, backlog, &settings);
    error = errno;
    IocpQueryFree(&query);
    if (chanPtr == NULL) {
	IocpOpenError(interp, error);
	return NULL;
    }
    chanPtr->listenerPtr->acceptProc = acceptProc;
    chanPtr->listenerPtr->acceptData = acceptData;
    chanPtr->listenerPtr->accepting = 1;
    if (IocpChanCreate(interp, chanPtr, 0) != TCL_OK) {
	return NULL;
    }
    IocpEventDirty(chanPtr);
    return chanPtr->channel;
}
