/*
 * iocpOption.c --
 *	The channel options. native/README.md describes them for users; the table says which there
 *	are.
 */

#include "iocpInt.h"

#define ON_STREAM 1		/* Connections have it. */
#define ON_LISTENER 2		/* Listeners have it; what is settable is inherited. */
#define LISTED 4		/* In the listing of all options. */

typedef int GetProc(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr);
typedef int SetProc(Tcl_Interp *interp, IocpChan *chanPtr, const char *value);

typedef struct Option {
    const char *name;
    int where;
    GetProc *getProc;		/* Appends list elements. */
    SetProc *setProc;		/* NULL: read-only. */
} Option;

void
IocpSettingsInit(IocpSettings *settingsPtr)
{
    *settingsPtr = (IocpSettings){
	.recvMode = IOCP_RECV_ZERO_BYTE, .recvCap = 1, .recvBufCap = 1,
	.sendCap = IOCP_SENDCAP, .lingerSeconds = IOCP_LINGER_SECONDS
    };
}

static int
SocketCount(const IocpChan *chanPtr)
{
    return chanPtr->listenerPtr != NULL ? chanPtr->listenerPtr->acceptorCount : 1;
}

static IocpSocket
SocketAt(const IocpChan *chanPtr, int index)
{
    return chanPtr->listenerPtr != NULL
	    ? chanPtr->listenerPtr->acceptors[index].handle.fd : chanPtr->handle.fd;
}

static int
Error(Tcl_Interp *interp, const char *message)
{
    if (interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj(message, -1));
    }
    return TCL_ERROR;
}

static int
SystemError(Tcl_Interp *interp, const char *what)
{
    if (interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("%s: %s", what, Tcl_PosixError(interp)));
    }
    return TCL_ERROR;
}

static void
AppendInt(Tcl_DString *dsPtr, int value)
{
    char number[16];

    snprintf(number, sizeof(number), "%d", value);
    Tcl_DStringAppendElement(dsPtr, number);
}

/*
 * -peername: {ip name port}; empty while connecting.
 */
static int
GetPeername(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    IocpSockaddr addr;
    socklen_t length = sizeof(addr);

    if (chanPtr->state == IOCP_CONNECTING) {
	return TCL_OK;
    }
    if (getpeername(SocketAt(chanPtr, 0), &addr.sa, &length) < 0) {
	return SystemError(interp, "can't get peername");
    }
    IocpAddrAppend(interp, dsPtr, &addr, length);
    return TCL_OK;
}

/*
 * -sockname: {ip name port}, for a listener as many triples as it has sockets; empty while
 * connecting.
 */
static int
GetSockname(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    if (chanPtr->state == IOCP_CONNECTING) {
	return TCL_OK;
    }
    for (int i = 0; i < SocketCount(chanPtr); i++) {
	IocpSockaddr addr;
	socklen_t length = sizeof(addr);

	if (getsockname(SocketAt(chanPtr, i), &addr.sa, &length) < 0) {
	    return SystemError(interp, "can't get sockname");
	}
	IocpAddrAppend(interp, dsPtr, &addr, length);
    }
    return TCL_OK;
}

/*
 * GetFlag, SetFlag --
 *	An on-off option of the kernel's, on every socket of the channel. Accepted sockets inherit
 *	it from the listening one by themselves. inverted: on means off.
 */
static int
GetFlag(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr, int level, int option,
	int inverted)
{
    int value = 0;
    socklen_t length = sizeof(value);

    if (chanPtr->handle.fd == IOCP_NO_SOCKET && chanPtr->listenerPtr == NULL) {
	errno = ENOTCONN;
	return SystemError(interp, "can't get option");
    }
    if (getsockopt(SocketAt(chanPtr, 0), level, option, &value, &length) < 0) {
	return SystemError(interp, "can't get option");
    }
    AppendInt(dsPtr, (value != 0) != inverted);
    return TCL_OK;
}

static int
SetFlag(Tcl_Interp *interp, IocpChan *chanPtr, const char *value, int level, int option,
	int inverted, const char *what)
{
    int on;

    if (Tcl_GetBoolean(interp, value, &on) != TCL_OK) {
	return TCL_ERROR;
    }
    on = (on != 0) != inverted;
    for (int i = 0; i < SocketCount(chanPtr); i++) {
	if (setsockopt(SocketAt(chanPtr, i), level, option, &on, sizeof(on)) < 0) {
	    return SystemError(interp, what);
	}
    }
    return TCL_OK;
}

/*
 * -keepalive boolean
 */
static int
GetKeepalive(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    return GetFlag(interp, chanPtr, dsPtr, SOL_SOCKET, SO_KEEPALIVE, 0);
}

static int
SetKeepalive(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    return SetFlag(interp, chanPtr, value, SOL_SOCKET, SO_KEEPALIVE, 0,
	    "couldn't set keepalive socket option");
}

/*
 * -nagle boolean: the reverse of TCP_NODELAY, default 0 (see IocpSocketNew). -nodelay boolean: Tcl
 * 9's name for it.
 */
static int
GetNagle(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    return GetFlag(interp, chanPtr, dsPtr, IPPROTO_TCP, TCP_NODELAY, 1);
}

static int
SetNagle(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    return SetFlag(interp, chanPtr, value, IPPROTO_TCP, TCP_NODELAY, 1,
	    "couldn't set nagle socket option");
}

static int
GetNodelay(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    return GetFlag(interp, chanPtr, dsPtr, IPPROTO_TCP, TCP_NODELAY, 0);
}

static int
SetNodelay(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    return SetFlag(interp, chanPtr, value, IPPROTO_TCP, TCP_NODELAY, 0,
	    "couldn't set nodelay socket option");
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
	error = chanPtr->error;
	chanPtr->errorUnread = 0;
    } else if (getsockopt(SocketAt(chanPtr, 0), SOL_SOCKET, SO_ERROR, &error, &length) == 0
	    && error != 0) {
	chanPtr->error = error;
    }
    if (error != 0) {
	Tcl_DStringAppend(dsPtr, Tcl_ErrnoMsg(error), -1);
    }
    return TCL_OK;
}

/*
 * -errorcode: the last error as errorCode has it, {POSIX NAME message}; stays. Empty without one.
 */
static int
GetErrorcode(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    if (chanPtr->error != 0 && chanPtr->state != IOCP_CONNECTING) {
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
    AppendInt(dsPtr, chanPtr->state == IOCP_CONNECTING);
    return TCL_OK;
}

/*
 * -backlog count: connections accepted ahead of the script, and the kernel's queue before them.
 * Default 20 ahead and the system's maximum in the kernel. Read as {cap inUse}.
 */
static int
GetBacklog(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    AppendInt(dsPtr, chanPtr->listenerPtr->backlog);
    AppendInt(dsPtr, chanPtr->listenerPtr->acceptedCount);
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
	return Error(interp, "only a positive integer greater than zero is allowed");
    }
    for (int i = 0; i < SocketCount(chanPtr); i++) {
	if (listen(SocketAt(chanPtr, i), backlog) < 0) {
	    return SystemError(interp, "couldn't set backlog");
	}
    }
    chanPtr->listenerPtr->backlog = backlog;
    IocpEventDirty(chanPtr);
    return TCL_OK;
}

/*
 * -sendcap count: buffers accepted for sending at most, default 20. Read as {cap inUse}.
 */
static int
GetSendcap(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    AppendInt(dsPtr, chanPtr->settings.sendCap);
    AppendInt(dsPtr, chanPtr->sendCount);
    return TCL_OK;
}

static int
SetSendcap(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int cap;

    if (Tcl_GetInt(interp, value, &cap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (cap < 1) {
	return Error(interp, "only a positive integer greater than zero is allowed");
    }
    chanPtr->settings.sendCap = cap;
    if (IocpChanReady(chanPtr) & chanPtr->watchMask) {
	IocpEventPost(chanPtr);
    }
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
    const IocpSettings *settingsPtr = &chanPtr->settings;

    (void)interp;
    Tcl_DStringAppendElement(dsPtr, names[settingsPtr->recvMode]);
    if (settingsPtr->recvMode == IOCP_RECV_BURST) {
	AppendInt(dsPtr, settingsPtr->recvCap);
	AppendInt(dsPtr, chanPtr->recvOp.inFlight ? chanPtr->recvOp.bufCount : 0);
	AppendInt(dsPtr, settingsPtr->recvBufCap);
	AppendInt(dsPtr, chanPtr->recvCount);
    }
    return TCL_OK;
}

static int
ParseBurst(Tcl_Interp *interp, int argc, const char **argv, IocpSettings *settingsPtr)
{
    if (argc != 3) {
	return Error(interp, "burst-detection must be followed by an integer for the concurrency"
		" limit and another integer for the buffer limit count as a list.");
    }
    if (Tcl_GetInt(interp, argv[1], &settingsPtr->recvCap) != TCL_OK
	    || Tcl_GetInt(interp, argv[2], &settingsPtr->recvBufCap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (settingsPtr->recvCap < 1 || settingsPtr->recvBufCap < 1) {
	return Error(interp, "only a positive integers greater than zero are allowed");
    }
    settingsPtr->recvMode = IOCP_RECV_BURST;
    return TCL_OK;
}

static int
SetRecvmode(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    IocpSettings settings = chanPtr->settings;
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
	result = Error(interp, "unknown option for -recvmode: must be one of zero-byte,"
		" flow-controlled or {burst-detection <WSARecv_limit> <unreadbuffer_limit>}.");
    }
    Tcl_Free((char *)argv);
    if (result == TCL_OK) {
	chanPtr->settings = settings;
	IocpOpCancel(chanPtr, &chanPtr->recvOp);	/* Posted for the old mode. */
	IocpEventDirty(chanPtr);
    }
    return result;
}

/*
 * -recvburst count: the spelling of iocpsock 2.0. 1 is flow-controlled, more is burst-detection
 * with that cap. Read as {cap inUse}.
 */
static int
GetRecvburst(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    AppendInt(dsPtr, chanPtr->settings.recvCap);
    AppendInt(dsPtr, chanPtr->recvOp.inFlight ? chanPtr->recvOp.bufCount : 0);
    return TCL_OK;
}

static int
SetRecvburst(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int cap;

    if (Tcl_GetInt(interp, value, &cap) != TCL_OK) {
	return TCL_ERROR;
    }
    if (cap < 1) {
	return Error(interp, "only a positive integer greater than zero is allowed");
    }
    chanPtr->settings.recvMode = cap == 1 ? IOCP_RECV_FLOW_CONTROLLED : IOCP_RECV_BURST;
    chanPtr->settings.recvCap = cap;
    chanPtr->settings.recvBufCap = cap > INT32_MAX / 2 ? INT32_MAX : 2 * cap;
    IocpEventDirty(chanPtr);
    return TCL_OK;
}

/*
 * -linger seconds: how long a closed channel may go on sending to a slow peer, default 60.
 */
static int
GetLinger(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    (void)interp;
    AppendInt(dsPtr, chanPtr->settings.lingerSeconds);
    return TCL_OK;
}

static int
SetLinger(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int seconds;

    if (Tcl_GetInt(interp, value, &seconds) != TCL_OK) {
	return TCL_ERROR;
    }
    if (seconds < 0) {
	return Error(interp, "only a number of seconds, zero or more, is allowed");
    }
    chanPtr->settings.lingerSeconds = seconds;
    return TCL_OK;
}

static const Option options[] = {
    {"-peername", ON_STREAM | LISTED, GetPeername, NULL},
    {"-sockname", ON_STREAM | ON_LISTENER | LISTED, GetSockname, NULL},
    {"-keepalive", ON_STREAM | ON_LISTENER | LISTED, GetKeepalive, SetKeepalive},
    {"-nagle", ON_STREAM | ON_LISTENER | LISTED, GetNagle, SetNagle},
    {"-backlog", ON_LISTENER | LISTED, GetBacklog, SetBacklog},
    {"-sendcap", ON_STREAM | ON_LISTENER | LISTED, GetSendcap, SetSendcap},
    {"-recvmode", ON_STREAM | ON_LISTENER | LISTED, GetRecvmode, SetRecvmode},
    {"-connecting", ON_STREAM | ON_LISTENER, GetConnecting, NULL},
    {"-error", ON_STREAM | ON_LISTENER, GetError, NULL},
    {"-errorcode", ON_STREAM | ON_LISTENER, GetErrorcode, NULL},
    {"-linger", ON_STREAM | ON_LISTENER, GetLinger, SetLinger},
    {"-nodelay", ON_STREAM | ON_LISTENER, GetNodelay, SetNodelay},
    {"-recvburst", ON_STREAM | ON_LISTENER, GetRecvburst, SetRecvburst},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

/*
 * BadOption --
 *	The error that names what is allowed.
 */
static int
BadOption(Tcl_Interp *interp, const char *name, int where, int settable)
{
    char list[256] = "";
    size_t used = 0;

    for (size_t i = 0; i < OPTION_COUNT; i++) {
	if ((options[i].where & where) && (!settable || options[i].setProc != NULL)) {
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
	if ((options[i].where & where) && options[i].setProc != NULL
		&& strcmp(name, options[i].name) == 0) {
	    return options[i].setProc(interp, chanPtr, value);
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

    IocpThreadSettle(chanPtr->threadPtr);
    IocpConnectWait(chanPtr, NULL);
    if (length > 1) {
	for (size_t i = 0; i < OPTION_COUNT; i++) {
	    if (strncmp(name, options[i].name, length) == 0 && ((options[i].where & where)
		    || options[i].getProc == GetPeername)) {
		return options[i].getProc(interp, chanPtr, dsPtr);
	    }
	}
    }
    if (name != NULL) {
	return BadOption(interp, name, where, 0);
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
	Tcl_DString value;

	if (!(options[i].where & where) || !(options[i].where & LISTED)) {
	    continue;
	}

	/*
	 * What cannot be told just now (the peer's name after a reset) is left out of the listing.
	 */

	Tcl_DStringInit(&value);
	if (options[i].getProc(NULL, chanPtr, &value) == TCL_OK) {
	    Tcl_DStringAppendElement(dsPtr, options[i].name);
	    Tcl_DStringAppendElement(dsPtr, Tcl_DStringValue(&value));
	}
	Tcl_DStringFree(&value);
    }
    return TCL_OK;
}
