/*
 * iocpOption.c --
 *	The channel options. native/REFERENCE.md describes them for users; the table says which
 *	there are.
 */

#include "iocpInt.h"

#define ON_STREAM 1		/* Connections have it. */
#define ON_LISTENER 2		/* Listeners have it; what is settable is inherited. */
#define LISTED 4		/* In the listing of all options. */
#define IN_KERNEL 8		/* A setting of the kernel's for each socket (iocpSockopt.c). */
#define ANY_CASE 16		/* Known in any case, as iocpsock knew it. */

#define BUSYPOLL_MAX 1000000	/* In microseconds. */

/* In the listing where Tcl's own sockets have it there. */
#define LISTED_9 (TCL_MAJOR_VERSION >= 9 ? LISTED : 0)

typedef int GetProc(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr);
typedef int SetProc(Tcl_Interp *interp, IocpChan *chanPtr, const char *value);

typedef struct Option {
    const char *name;
    int where;
    GetProc *getProc;		/* Appends list elements. */
    SetProc *setProc;		/* NULL: read-only, unless it is IN_KERNEL. */
} Option;

/*
 * Change --
 *	The channel is to be so, if there is memory for it.
 */
static int
Change(Tcl_Interp *interp, IocpChan *chanPtr, const IocpSettings *settingsPtr)
{
    if (!IocpSettingsPut(chanPtr, settingsPtr)) {
	Tcl_SetErrno(ENOMEM);
	return IocpSystemError(interp, "couldn't set option");
    }
    return TCL_OK;
}

int
IocpSocketCount(const IocpChan *chanPtr)
{
    return chanPtr->listenerPtr != NULL ? chanPtr->listenerPtr->acceptorCount : 1;
}

IocpSocket
IocpSocketAt(const IocpChan *chanPtr, int index)
{
    return chanPtr->listenerPtr != NULL
	    ? chanPtr->listenerPtr->acceptors[index].handle.fd : chanPtr->handle.fd;
}

int
IocpError(Tcl_Interp *interp, const char *message)
{
    if (interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj(message, -1));
    }
    return TCL_ERROR;
}

int
IocpSystemError(Tcl_Interp *interp, const char *what)
{
    Tcl_SetErrno(errno);	/* Tcl may have a C library, and an errno, of its own. */
    if (interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("%s: %s", what, Tcl_PosixError(interp)));
    }
    return TCL_ERROR;
}

void
IocpAppendInt(Tcl_DString *dsPtr, Tcl_WideInt value)
{
    char number[32];

    snprintf(number, sizeof(number), "%lld", (long long)value);
    Tcl_DStringAppendElement(dsPtr, number);
}

/*
 * AppendName --
 *	{ip name port} of one of the channel's sockets. A client whose addresses have all failed may
 *	have none.
 */
static int
AppendName(Tcl_Interp *interp, IocpChan *chanPtr, int index,
	int (*nameProc)(int fd, struct sockaddr *addrPtr, socklen_t *lengthPtr), const char *what,
	Tcl_DString *dsPtr)
{
    IocpSocket fd = IocpSocketAt(chanPtr, index);
    IocpSockaddr addr;
    socklen_t length = sizeof(addr);

    if (fd == IOCP_NO_SOCKET) {
	errno = ENOTCONN;
	return IocpSystemError(interp, what);
    }
    if (nameProc(fd, &addr.sa, &length) < 0) {
	return IocpSystemError(interp, what);
    }
    IocpAddrAppend(interp, dsPtr, &addr, length);
    return TCL_OK;
}

static void
AppendProxied(Tcl_Interp *interp, const IocpSockaddr *addrPtr, Tcl_DString *dsPtr)
{
    IocpAddrAppend(interp, dsPtr, addrPtr, IocpAddrLength(addrPtr));
}

/*
 * -peername: {ip name port}; empty while connecting. Of a connection from a proxy, its client's.
 */
static int
GetPeername(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    if (chanPtr->proxyPtr != NULL && chanPtr->proxyPtr->addrs.known) {
	AppendProxied(interp, &chanPtr->proxyPtr->addrs.peer, dsPtr);
	return TCL_OK;
    }
    return chanPtr->state == IOCP_CONNECTING ? TCL_OK
	    : AppendName(interp, chanPtr, 0, IocpSocketPeer, "can't get peername", dsPtr);
}

/*
 * -sockname: {ip name port}, for a listener as many triples as it has sockets; empty while
 * connecting. Of a connection from a proxy, the one that its client has connected to.
 */
static int
GetSockname(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    int count = chanPtr->state == IOCP_CONNECTING ? 0 : IocpSocketCount(chanPtr);

    if (chanPtr->proxyPtr != NULL && chanPtr->proxyPtr->addrs.known) {
	AppendProxied(interp, &chanPtr->proxyPtr->addrs.local, dsPtr);
	return TCL_OK;
    }
    for (int i = 0; i < count; i++) {
	if (AppendName(interp, chanPtr, i, IocpSocketName, "can't get sockname", dsPtr) != TCL_OK) {
	    return TCL_ERROR;
	}
    }
    return TCL_OK;
}

/*
 * -error: the message of the last error, once; empty without one and while connecting.
 */
static int
GetError(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    int error = 0;
    socklen_t length = sizeof(error);

    (void)interp;
    if (chanPtr->state == IOCP_CONNECTING) {
	return TCL_OK;
    }
    if (chanPtr->errorUnread) {
	chanPtr->errorUnread = 0;
	if (chanPtr->lookupError != 0) {
	    Tcl_DStringAppend(dsPtr, gai_strerror(chanPtr->lookupError), -1);
	    return TCL_OK;
	}
	error = chanPtr->error;
    } else if (IocpSocketGetopt(IocpSocketAt(chanPtr, 0), SOL_SOCKET, SO_ERROR, &error,
	    &length) == 0 && error != 0) {
	chanPtr->error = error;
    }
    if (error != 0) {
	Tcl_DStringAppend(dsPtr, Tcl_ErrnoMsg(error), -1);
    }
    return TCL_OK;
}

/*
 * -errorcode: the last error as errorCode has it, {POSIX NAME message}, or that of a host that
 * could not be looked up; stays. Empty without one.
 */
static int
GetErrorcode(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    if (chanPtr->state == IOCP_CONNECTING) {
	return TCL_OK;
    }
    if (chanPtr->lookupError != 0) {
	IocpQueryErrorCode(dsPtr, chanPtr->lookupError);
    } else if (chanPtr->error != 0) {
	Tcl_SetErrno(chanPtr->error);
	Tcl_DStringAppendElement(dsPtr, "POSIX");
	Tcl_DStringAppendElement(dsPtr, Tcl_ErrnoId());
	Tcl_DStringAppendElement(dsPtr, Tcl_ErrnoMsg(chanPtr->error));
    }
    return TCL_OK;
}

/*
 * -connecting: 1 while an asynchronous connect is under way.
 */
static int
GetConnecting(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->state == IOCP_CONNECTING);
    return TCL_OK;
}

/*
 * -backlog count: connections accepted ahead of the script, and the kernel's queue before them.
 * Default 20 ahead and the system's maximum in the kernel; of an inherited socket 1, and the
 * kernel's queue is not ours. Read as {cap inUse}.
 */
static int
GetBacklog(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->listenerPtr->backlog);
    IocpAppendInt(dsPtr, chanPtr->listenerPtr->acceptedCount + chanPtr->listenerPtr->proxyCount);
    return TCL_OK;
}

static int
SetBacklog(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int backlog;

    if (Tcl_GetInt(interp, value, &backlog) != TCL_OK) {
	return TCL_ERROR;
    }
    if (backlog < 1) {
	return IocpError(interp, "only a positive integer greater than zero is allowed");
    }
    for (int i = 0; i < IocpSocketCount(chanPtr); i++) {
	if (!(chanPtr->listenerPtr->acceptors[i].op.flags & IOCP_OPF_SHARED)
		&& IocpSocketListen(IocpSocketAt(chanPtr, i), backlog) < 0) {
	    return IocpSystemError(interp, "couldn't set backlog");
	}
    }
    chanPtr->listenerPtr->backlog = backlog;
    IocpEventDirty(chanPtr);
    return TCL_OK;
}

/*
 * -accepting boolean: whether more is accepted, default 1. With 0, what was accepted before still
 * goes to the accept procedure, and is the second number of -backlog until it does.
 */
static int
GetAccepting(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->listenerPtr->accepting);
    return TCL_OK;
}

static int
SetAccepting(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int accepting;

    if (Tcl_GetBoolean(interp, value, &accepting) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpListenAccepting(chanPtr, accepting);
    return TCL_OK;
}

/*
 * -proxyprotocol off|require: whether a proxy's header comes before the data of each connection,
 * default off.
 */
static int
GetProxyProtocol(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    Tcl_DStringAppendElement(dsPtr, chanPtr->settingsPtr->proxyProtocol ? "require" : "off");
    return TCL_OK;
}

static int
SetProxyProtocol(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;
    int require = strcmp(value, "require") == 0;

    if (!require && strcmp(value, "off") != 0) {
	return IocpError(interp, "bad value for -proxyprotocol: must be off or require");
    }
    settings.proxyProtocol = require;
    return Change(interp, chanPtr, &settings);
}

/*
 * -sendcap count: buffers accepted for sending at most, default 20. Read as {cap inUse}.
 */
static int
GetSendcap(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->sendCap);
    IocpAppendInt(dsPtr, chanPtr->sendPtr->count);
    return TCL_OK;
}

static int
SetSendcap(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;

    if (Tcl_GetInt(interp, value, &settings.sendCap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (settings.sendCap < 1) {
	return IocpError(interp, "only a positive integer greater than zero is allowed");
    }
    if (Change(interp, chanPtr, &settings) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpEventTell(chanPtr);
    return TCL_OK;
}

/*
 * -recvmode mode: zero-byte (default), flow-controlled, {burst-detection cap bufcap}. Read back
 * the same way, burst-detection with what is in use: {burst-detection cap posted bufcap unread}.
 */
static int
GetRecvmode(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    static const char *const names[] = {"zero-byte", "flow-controlled", "burst-detection"};
    const IocpSettings *settingsPtr = chanPtr->settingsPtr;

    (void)interp;
    Tcl_DStringAppendElement(dsPtr, names[settingsPtr->recvMode]);
    if (settingsPtr->recvMode == IOCP_RECV_BURST) {
	IocpAppendInt(dsPtr, settingsPtr->recvCap);
	IocpAppendInt(dsPtr, chanPtr->recvOp.inFlight ? chanPtr->recvOp.bufCount : 0);
	IocpAppendInt(dsPtr, settingsPtr->recvBufCap);
	IocpAppendInt(dsPtr, chanPtr->recvCount);
    }
    return TCL_OK;
}

static int
ParseBurst(Tcl_Interp *interp, int argc, const char **argv, IocpSettings *settingsPtr)
{
    if (argc != 3) {
	return IocpError(interp, "burst-detection must be followed by an integer for the"
		" concurrency limit and another integer for the buffer limit count as a list.");
    }
    if (Tcl_GetInt(interp, argv[1], &settingsPtr->recvCap) != TCL_OK
	    || Tcl_GetInt(interp, argv[2], &settingsPtr->recvBufCap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (settingsPtr->recvCap < 1 || settingsPtr->recvBufCap < 1) {
	return IocpError(interp, "only a positive integers greater than zero are allowed");
    }
    settingsPtr->recvMode = IOCP_RECV_BURST;
    return TCL_OK;
}

static int
ChangeRecvmode(Tcl_Interp *interp, IocpChan *chanPtr, const IocpSettings *settingsPtr)
{
    if (Change(interp, chanPtr, settingsPtr) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpOpCancel(chanPtr, &chanPtr->recvOp);	/* Posted for the old mode. */
    IocpEventDirty(chanPtr);
    return TCL_OK;
}

static int
SetRecvmode(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;
    Tcl_Size argc;
    const char **argv;
    int result = TCL_OK;

    if (Tcl_SplitList(interp, value, &argc, &argv) != TCL_OK) {
	return TCL_ERROR;
    }
    settings.recvCap = settings.recvBufCap = 1;
    if (argc > 0 && strcmp(argv[0], "zero-byte") == 0) {
	settings.recvMode = IOCP_RECV_ZERO_BYTE;
    } else if (argc > 0 && strcmp(argv[0], "flow-controlled") == 0) {
	settings.recvMode = IOCP_RECV_FLOW_CONTROLLED;
    } else if (argc > 0 && strcmp(argv[0], "burst-detection") == 0) {
	result = ParseBurst(interp, (int)argc, argv, &settings);
    } else {
	result = IocpError(interp, "unknown option for -recvmode: must be one of zero-byte,"
		" flow-controlled or {burst-detection <WSARecv_limit> <unreadbuffer_limit>}.");
    }
    Tcl_Free((char *)argv);
    return result == TCL_OK ? ChangeRecvmode(interp, chanPtr, &settings) : TCL_ERROR;
}

/*
 * -recvburst count: the spelling of iocpsock 2.0. 1 is flow-controlled, more is burst-detection
 * with that cap. Read as {cap inUse}.
 */
static int
GetRecvburst(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->recvCap);
    IocpAppendInt(dsPtr, chanPtr->recvOp.inFlight ? chanPtr->recvOp.bufCount : 0);
    return TCL_OK;
}

static int
SetRecvburst(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;
    int cap;

    if (Tcl_GetInt(interp, value, &cap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (cap < 1) {
	return IocpError(interp, "only a positive integer greater than zero is allowed");
    }
    settings.recvMode = cap == 1 ? IOCP_RECV_FLOW_CONTROLLED : IOCP_RECV_BURST;
    settings.recvCap = cap;
    settings.recvBufCap = cap > INT32_MAX / 2 ? INT32_MAX : 2 * cap;
    return ChangeRecvmode(interp, chanPtr, &settings);
}

/*
 * -linger seconds: how long a closed channel may go on sending to a slow peer, default 60.
 */
static int
GetLinger(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->lingerSeconds);
    return TCL_OK;
}

static int
SetLinger(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;

    if (Tcl_GetInt(interp, value, &settings.lingerSeconds) != TCL_OK) {
	return TCL_ERROR;
    }
    if (settings.lingerSeconds < 0) {
	return IocpError(interp, "only a number of seconds, zero or more, is allowed");
    }
    return Change(interp, chanPtr, &settings);
}

/*
 * -busypoll microseconds: how long the thread looks for what comes before it sleeps, default 0.
 */
static int
GetBusypoll(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->busyPollUs);
    return TCL_OK;
}

static int
SetBusypoll(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;

    if (Tcl_GetInt(interp, value, &settings.busyPollUs) != TCL_OK) {
	return TCL_ERROR;
    }
    if (settings.busyPollUs < 0 || settings.busyPollUs > BUSYPOLL_MAX) {
	return IocpError(interp, "only a number of microseconds, 0 to 1000000, is allowed");
    }
    if (Change(interp, chanPtr, &settings) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpThreadBusyPoll(chanPtr, settings.busyPollUs);
    return TCL_OK;
}

/*
 * SetTimeout --
 *	A time-out in milliseconds, 0 for none: msPtr is its place in the new settings.
 */
static int
SetTimeout(Tcl_Interp *interp, IocpChan *chanPtr, const char *value, IocpSettings *settingsPtr,
	int *msPtr)
{
    IocpSettings before = *chanPtr->settingsPtr;

    if (Tcl_GetInt(interp, value, msPtr) != TCL_OK) {
	return TCL_ERROR;
    }
    if (*msPtr < 0) {
	return IocpError(interp, "only a number of milliseconds, zero or more, is allowed");
    }
    if (Change(interp, chanPtr, settingsPtr) != TCL_OK) {
	return TCL_ERROR;
    }
    if (!IocpTimeoutWatch(chanPtr)) {
	IocpSettingsPut(chanPtr, &before);
	Tcl_SetErrno(ENOMEM);
	return IocpSystemError(interp, "couldn't set option");
    }
    return TCL_OK;
}

/*
 * -idletimeout milliseconds: how long the peer may be silent while it is waited for, default 0: for
 * ever.
 */
static int
GetIdleTimeout(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->idleTimeoutMs);
    return TCL_OK;
}

static int
SetIdleTimeout(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;

    return SetTimeout(interp, chanPtr, value, &settings, &settings.idleTimeoutMs);
}

/*
 * -requesttimeout milliseconds: how long the peer may take to send what is then answered, default
 * 0: for ever.
 */
static int
GetRequestTimeout(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    IocpAppendInt(dsPtr, chanPtr->settingsPtr->requestTimeoutMs);
    return TCL_OK;
}

static int
SetRequestTimeout(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = *chanPtr->settingsPtr;

    return SetTimeout(interp, chanPtr, value, &settings, &settings.requestTimeoutMs);
}

/*
 * In the order of iocpsock's messages and listings; what it did not have comes behind.
 */
static const Option options[] = {
    {"-peername", ON_STREAM | LISTED, GetPeername, NULL},
    {"-sockname", ON_STREAM | ON_LISTENER | LISTED, GetSockname, NULL},
    {"-keepalive", ON_STREAM | ON_LISTENER | LISTED | IN_KERNEL | ANY_CASE, NULL, NULL},
    {"-nagle", ON_STREAM | ON_LISTENER | LISTED | IN_KERNEL | ANY_CASE, NULL, NULL},
    {"-error", ON_STREAM | ON_LISTENER, GetError, NULL},
    {"-backlog", ON_LISTENER | LISTED, GetBacklog, SetBacklog},
    {"-sendcap", ON_STREAM | ON_LISTENER | LISTED, GetSendcap, SetSendcap},
    {"-recvmode", ON_STREAM | ON_LISTENER | LISTED, GetRecvmode, SetRecvmode},
    {"-connecting", ON_STREAM | ON_LISTENER, GetConnecting, NULL},
    {"-errorcode", ON_STREAM | ON_LISTENER, GetErrorcode, NULL},
    {"-accepting", ON_LISTENER, GetAccepting, SetAccepting},
    {"-busypoll", ON_STREAM | ON_LISTENER, GetBusypoll, SetBusypoll},
    {"-idletimeout", ON_STREAM | ON_LISTENER, GetIdleTimeout, SetIdleTimeout},
    {"-linger", ON_STREAM | ON_LISTENER, GetLinger, SetLinger},
    {"-nodelay", ON_STREAM | ON_LISTENER | LISTED_9 | IN_KERNEL, NULL, NULL},
    {"-protocol", ON_STREAM | ON_LISTENER, IocpSockoptGetProtocol, NULL},
    {"-proxyprotocol", ON_LISTENER, GetProxyProtocol, SetProxyProtocol},
    {"-qos", ON_STREAM | ON_LISTENER, IocpSockoptGetQos, IocpSockoptSetQos},
    {"-recvburst", ON_STREAM | ON_LISTENER, GetRecvburst, SetRecvburst},
    {"-requesttimeout", ON_STREAM | ON_LISTENER, GetRequestTimeout, SetRequestTimeout},
    {"-reuseaddr", ON_LISTENER | IN_KERNEL, NULL, NULL},
    {"-reuseport", ON_LISTENER | IN_KERNEL, NULL, NULL},
    {"-sorcvbuf", ON_STREAM | ON_LISTENER | IN_KERNEL, NULL, NULL},
    {"-sosndbuf", ON_STREAM | ON_LISTENER | IN_KERNEL, NULL, NULL},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

static int
IsSettable(const Option *optionPtr)
{
    return optionPtr->setProc != NULL || (optionPtr->where & IN_KERNEL);
}

/*
 * Matches --
 *	Whether name is the option's, as far as length characters go.
 */
static int
Matches(const Option *optionPtr, const char *name, size_t length)
{
    return ((optionPtr->where & ANY_CASE) ? strncasecmp : strncmp)(name, optionPtr->name, length)
	    == 0;
}

static int
Get(Tcl_Interp *interp, IocpChan *chanPtr, const Option *optionPtr, Tcl_DString *dsPtr)
{
    return (optionPtr->where & IN_KERNEL)
	    ? IocpSockoptGet(interp, chanPtr, optionPtr->name, dsPtr)
	    : optionPtr->getProc(interp, chanPtr, dsPtr);
}

static int
Set(Tcl_Interp *interp, IocpChan *chanPtr, const Option *optionPtr, const char *value)
{
    return (optionPtr->where & IN_KERNEL)
	    ? IocpSockoptSet(interp, chanPtr, optionPtr->name, value)
	    : optionPtr->setProc(interp, chanPtr, value);
}

/*
 * BadOption --
 *	The error that names what is allowed.
 */
static int
BadOption(Tcl_Interp *interp, const char *name, int where, int settable)
{
    char list[512] = "";
    size_t used = 0;

    for (size_t i = 0; i < OPTION_COUNT; i++) {
	if ((options[i].where & where) && (!settable || IsSettable(&options[i]))) {
	    used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
		    used == 0 ? "" : " ", options[i].name + 1);
	}
    }
    return Tcl_BadChannelOption(interp, name, list);
}

int
IocpSetOption(void *instanceData, Tcl_Interp *interp, const char *name, const char *value)
{
    IocpChan *chanPtr = instanceData;
    int where = chanPtr->listenerPtr != NULL ? ON_LISTENER : ON_STREAM;

    IocpThreadSettle(chanPtr->threadPtr);
    IocpConnectWait(chanPtr, NULL);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
	if ((options[i].where & where) && IsSettable(&options[i])
		&& Matches(&options[i], name, SIZE_MAX)) {
	    return Set(interp, chanPtr, &options[i], value);
	}
    }
    return BadOption(interp, name, where, 1);
}

int
IocpGetOption(void *instanceData, Tcl_Interp *interp, const char *name, Tcl_DString *dsPtr)
{
    IocpChan *chanPtr = instanceData;
    int where = chanPtr->listenerPtr != NULL ? ON_LISTENER : ON_STREAM;
    size_t length = name == NULL ? 0 : strlen(name);
    Tcl_InterpState state = NULL;

    IocpThreadSettle(chanPtr->threadPtr);
    IocpConnectWait(chanPtr, NULL);
    if (length > 1) {
	for (size_t i = 0; i < OPTION_COUNT; i++) {
	    if (Matches(&options[i], name, length) && ((options[i].where & where)
		    || options[i].getProc == GetPeername)) {
		return Get(interp, chanPtr, &options[i], dsPtr);
	    }
	}
    }
    if (length > 0) {
	return BadOption(interp, name, where, 0);
    }

    /*
     * What cannot be told just now (the peer's name after a reset) is left out of the listing, and
     * so is why.
     */

    if (interp != NULL) {
	state = Tcl_SaveInterpState(interp, TCL_OK);
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
	Tcl_DString value;

	if (!(options[i].where & where) || !(options[i].where & LISTED)) {
	    continue;
	}
	Tcl_DStringInit(&value);
	if (Get(interp, chanPtr, &options[i], &value) == TCL_OK) {
	    Tcl_DStringAppendElement(dsPtr, options[i].name);
	    Tcl_DStringAppendElement(dsPtr, Tcl_DStringValue(&value));
	}
	Tcl_DStringFree(&value);
    }
    if (interp != NULL) {
	Tcl_RestoreInterpState(interp, state);
    }
    return TCL_OK;
}
