/*
 * iocpCmd.c --
 *	The script commands: socket2, iocp::engine, iocp::engines, iocp::notifier, iocp_module_path.
 */

#include "iocpInt.h"

/* What the words of a socket2 command ask for. */
typedef struct Request {
    int async;
    const char *host, *myaddr;	/* NULL: not given. */
    int port, myport;
    int backlog;		/* 0: not given. */
    Tcl_Obj *serverPtr;		/* -server's script, or NULL. */
    const char *lookup;		/* -lookup's name, or NULL. */
    Tcl_Obj *commandPtr;	/* -command's script, or NULL. */
    IocpSettings settings;
} Request;

enum Option {
    OPT_ASYNC, OPT_BACKLOG, OPT_COMMAND, OPT_LOOKUP, OPT_MYADDR, OPT_MYPORT, OPT_PROTOCOL,
    OPT_QOS, OPT_REUSEADDR, OPT_REUSEPORT, OPT_SERVER
};

static const char *const optionNames[] = {
    "-async", "-backlog", "-command", "-lookup", "-myaddr", "-myport", "-protocol", "-qos",
    "-reuseaddr", "-reuseport", "-server", NULL
};

/*
 * WrongArgs --
 *	The core's message with all forms. Tcl_WrongNumArgs knows the name that the command was
 *	called by (an alias, perhaps); the other forms repeat it.
 */
static int
WrongArgs(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    static const char *const client = "?-myaddr addr? ?-myport myport? ?-async? ?-protocol type?"
	    " ?-qos settings? host port";
    static const char *const server = "-server command ?-backlog count? ?-myaddr addr?"
	    " ?-protocol type? ?-qos settings? ?-reuseaddr boolean? ?-reuseport boolean? port";
    static const char *const lookup = "-lookup name ?-protocol type? ?-command command?";
    const char *message, *first, *last;
    Tcl_Obj *resultPtr;

    Tcl_WrongNumArgs(interp, 1, objv, client);
    message = Tcl_GetString(Tcl_GetObjResult(interp));
    first = strchr(message, '"');
    last = strstr(message, client);
    resultPtr = Tcl_NewStringObj(message, -1);
    if (first != NULL && last != NULL) {
	int length = (int)(last - first - 1);

	Tcl_AppendPrintfToObj(resultPtr, " or \"%.*s%s\" or \"%.*s%s\"", length, first + 1,
		server, length, first + 1, lookup);
    }
    Tcl_SetObjResult(interp, resultPtr);
    return TCL_ERROR;
}

/*
 * GetProtocol --
 *	-protocol: what there is; the names of what there may be one day are known as such.
 */
static int
GetProtocol(Tcl_Interp *interp, Tcl_Obj *wordPtr, IocpProtocol *protocolPtr)
{
    static const char *const names[] = {"tcp", "tcp4", "tcp6", "mptcp", NULL};
    static const char *const missing[] = {
	"udp", "udp4", "udp6", "irda", "bth", "ipx", "spx", "spx2", "atp", "adsp", "atm", "decnet",
	"isotp4", "netbios", "vines", "unix", "vsock", "sctp", NULL
    };
    IocpSettings settings;
    IocpSocket fd;
    int index;

    if (Tcl_GetIndexFromObj(NULL, wordPtr, missing, "protocol", TCL_EXACT, &index) == TCL_OK) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("protocol \"%s\" is not supported yet: must be"
		" tcp, tcp4, tcp6, or mptcp", missing[index]));
	Tcl_SetErrorCode(interp, "TCL", "LOOKUP", "INDEX", "protocol", missing[index], NULL);
	return TCL_ERROR;
    }
    if (Tcl_GetIndexFromObj(interp, wordPtr, names, "protocol", TCL_EXACT, &index) != TCL_OK) {
	return TCL_ERROR;
    }
    *protocolPtr = (IocpProtocol)index;
    if (*protocolPtr != IOCP_MPTCP) {
	return TCL_OK;
    }

    /*
     * The administrator can forbid it. Later, the error would not tell which of the words is to
     * blame.
     */

    settings = iocpDefaultSettings;
    settings.protocol = IOCP_MPTCP;
    fd = IocpSocketNew(AF_INET, &settings);
    if (fd == IOCP_NO_SOCKET) {
	return IocpSystemError(interp, "couldn't open socket: the system refuses mptcp");
    }
    IocpSocketClose(fd);
    return TCL_OK;
}

/*
 * SetOption --
 *	An option that has a value.
 */
static int
SetOption(Tcl_Interp *interp, Request *requestPtr, enum Option option, Tcl_Obj *valuePtr)
{
    int64_t *sockopts = requestPtr->settings.sockopts;
    int flag;

    switch (option) {
    case OPT_BACKLOG:
	if (Tcl_GetIntFromObj(interp, valuePtr, &requestPtr->backlog) != TCL_OK) {
	    return TCL_ERROR;
	}
	return requestPtr->backlog > 0 ? TCL_OK
		: IocpError(interp, "only a positive integer greater than zero is allowed");
    case OPT_COMMAND:
	requestPtr->commandPtr = valuePtr;
	return TCL_OK;
    case OPT_LOOKUP:
	requestPtr->lookup = Tcl_GetString(valuePtr);
	return TCL_OK;
    case OPT_MYADDR:
	requestPtr->myaddr = Tcl_GetString(valuePtr);
	return TCL_OK;
    case OPT_MYPORT:
	return IocpAddrGetPort(interp, Tcl_GetString(valuePtr), &requestPtr->myport);
    case OPT_PROTOCOL:
	return GetProtocol(interp, valuePtr, &requestPtr->settings.protocol);
    case OPT_QOS:
	return IocpQosParse(interp, Tcl_GetString(valuePtr), sockopts);
    case OPT_REUSEADDR:
    case OPT_REUSEPORT:
	if (Tcl_GetBooleanFromObj(interp, valuePtr, &flag) != TCL_OK) {
	    return TCL_ERROR;
	}
	sockopts[option == OPT_REUSEADDR ? IOCP_SO_REUSEADDR : IOCP_SO_REUSEPORT] = flag;
	return TCL_OK;
    default:
	requestPtr->serverPtr = valuePtr;
	return TCL_OK;
    }
}

/*
 * LookupOnly --
 *	Of the options that are given (bits), the first that a lookup has no use for is an error.
 */
static int
LookupOnly(Tcl_Interp *interp, unsigned given)
{
    unsigned wrong = given & ~(1u << OPT_LOOKUP | 1u << OPT_COMMAND | 1u << OPT_PROTOCOL);

    for (int i = 0; optionNames[i] != NULL; i++) {
	if (wrong & 1u << i) {
	    Tcl_SetObjResult(interp, Tcl_ObjPrintf("option %s is not valid for lookups",
		    optionNames[i]));
	    return TCL_ERROR;
	}
    }
    return TCL_OK;
}

/*
 * Parse --
 *	The words of a socket2 command.
 */
static int
Parse(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[], Request *requestPtr)
{
    const int64_t *sockopts = requestPtr->settings.sockopts;
    unsigned given = 0;
    int index, i;

    for (i = 1; i < objc && Tcl_GetString(objv[i])[0] == '-'; i++) {
	if (Tcl_GetIndexFromObj(interp, objv[i], optionNames, "option", TCL_EXACT, &index)
		!= TCL_OK) {
	    return TCL_ERROR;
	}
	given |= 1u << index;
	requestPtr->async |= index == OPT_ASYNC;
	if (requestPtr->async && (requestPtr->serverPtr != NULL || index == OPT_SERVER)) {
	    return IocpError(interp, "cannot set -async option for server sockets");
	}
	if (index == OPT_ASYNC) {
	    continue;
	}
	if (++i >= objc) {
	    Tcl_SetObjResult(interp, Tcl_ObjPrintf("no argument given for %s option",
		    optionNames[index]));
	    return TCL_ERROR;
	}
	if (SetOption(interp, requestPtr, (enum Option)index, objv[i]) != TCL_OK) {
	    return TCL_ERROR;
	}
    }
    if (requestPtr->lookup != NULL) {
	return LookupOnly(interp, given) != TCL_OK ? TCL_ERROR
		: i < objc ? WrongArgs(interp, objv) : TCL_OK;
    }
    if (requestPtr->commandPtr != NULL) {
	return IocpError(interp, "option -command is only valid for lookups");
    }
    if (requestPtr->serverPtr != NULL) {
	if (requestPtr->myport != 0) {
	    return IocpError(interp, "option -myport is not valid for servers");
	}
    } else if (i < objc) {
	requestPtr->host = Tcl_GetString(objv[i++]);
    } else {
	return WrongArgs(interp, objv);
    }
    if (requestPtr->serverPtr == NULL && (requestPtr->backlog != 0
	    || sockopts[IOCP_SO_REUSEADDR] >= 0 || sockopts[IOCP_SO_REUSEPORT] >= 0)) {
	return IocpError(interp,
		"options -backlog, -reuseaddr, and -reuseport are only valid for servers");
    }
    if (i != objc - 1) {
	return WrongArgs(interp, objv);
    }
    return IocpAddrGetPort(interp, Tcl_GetString(objv[i]), &requestPtr->port);
}

/*
 * IocpSocketObjCmd --
 *	socket2: the syntax and the messages of the core's socket, those of Tcl 9 for what Tcl 8.6
 *	has not.
 */
int
IocpSocketObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Request request = {0};
    Tcl_Channel channel;

    (void)unused;
    request.settings = iocpDefaultSettings;
    if (Parse(interp, objc, objv, &request) != TCL_OK) {
	return TCL_ERROR;
    }
    if (request.lookup != NULL) {
	return IocpLookup(interp, request.lookup, request.settings.protocol, request.commandPtr);
    }
    if (request.serverPtr == NULL) {
	channel = IocpOpenClient(interp, request.port, request.host, request.myaddr,
		request.myport, request.async, &request.settings);
    } else {
	IocpAcceptScript *acceptPtr = IocpAcceptScriptNew(interp, request.serverPtr);

	channel = IocpOpenServer(interp, request.port, request.myaddr, IocpAcceptProc, acceptPtr,
		request.backlog, &request.settings);
	if (channel == NULL) {
	    IocpAcceptScriptFree(acceptPtr);
	} else {
	    Tcl_CreateCloseHandler(channel, IocpAcceptScriptFree, acceptPtr);
	}
    }
    if (channel == NULL) {
	return TCL_ERROR;
    }
    Tcl_RegisterChannel(interp, channel);
    Tcl_SetObjResult(interp, IocpNameNew(Tcl_GetChannelInstanceData(channel)));
    return TCL_OK;
}

/*
 * IocpEngineObjCmd --
 *	iocp::engine: the name of the engine that serves this thread.
 */
int
IocpEngineObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    char reason[256];
    IocpThread *threadPtr;

    (void)unused;
    if (objc != 1) {
	Tcl_WrongNumArgs(interp, 1, objv, NULL);
	return TCL_ERROR;
    }
    threadPtr = IocpThreadGet(reason, sizeof(reason));
    if (threadPtr == NULL) {
	return IocpError(interp, reason);
    }
    Tcl_SetObjResult(interp, Tcl_NewStringObj(threadPtr->enginePtr->typePtr->typeName, -1));
    return TCL_OK;
}

int
Iocp_GetEngines(IocpEngineInfo *infosPtr, int max)
{
    int count = 0;

    for (; iocpEngineTypes[count] != NULL; count++) {
	if (count < max) {
	    IocpEngineInfo *infoPtr = &infosPtr[count];

	    infoPtr->name = iocpEngineTypes[count]->typeName;
	    infoPtr->usable = iocpEngineTypes[count]->probeProc(infoPtr->reason,
		    sizeof(infoPtr->reason)) == 0;
	}
    }
    return count;
}

/*
 * IocpEnginesObjCmd --
 *	iocp::engines: a dict for each engine of this build, in order of preference: its name,
 *	whether it is usable here, and the reason why not.
 */
int
IocpEnginesObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    IocpEngineInfo infos[IOCP_ENGINES_MAX];
    Tcl_Obj *listPtr;
    int count;

    (void)unused;
    if (objc != 1) {
	Tcl_WrongNumArgs(interp, 1, objv, NULL);
	return TCL_ERROR;
    }
    count = Iocp_GetEngines(infos, IOCP_ENGINES_MAX);
    listPtr = Tcl_NewListObj(0, NULL);
    for (int i = 0; i < count; i++) {
	Tcl_Obj *dictPtr = Tcl_NewDictObj();

	Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj("name", -1),
		Tcl_NewStringObj(infos[i].name, -1));
	Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj("usable", -1),
		Tcl_NewIntObj(infos[i].usable));
	Tcl_DictObjPut(NULL, dictPtr, Tcl_NewStringObj("reason", -1),
		Tcl_NewStringObj(infos[i].reason, -1));
	Tcl_ListObjAppendElement(NULL, listPtr, dictPtr);
    }
    Tcl_SetObjResult(interp, listPtr);
    return TCL_OK;
}

/*
 * IocpNotifierObjCmd --
 *	iocp::notifier ?ring|tcl?: whose notifier Tcl's event loop runs on. It can be given to the
 *	driver, once and early.
 */
int
IocpNotifierObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    static const char *const names[] = {"ring", "tcl", NULL};
    int index = IocpNotifierHosts() ? 0 : 1;

    (void)unused;
    if (objc > 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "?ring|tcl?");
	return TCL_ERROR;
    }
    if (objc == 2 && Tcl_GetIndexFromObj(interp, objv[1], names, "notifier", TCL_EXACT, &index)
	    != TCL_OK) {
	return TCL_ERROR;
    }
    if (objc == 2 && Tcl_IsSafe(interp)) {
	return IocpError(interp, "permission denied: a safe interpreter cannot"
		" change the notifier");
    }
    if (index == 0 && !IocpNotifierHosts()
	    && IocpNotifierHost(interp, Tcl_GetString(objv[0])) != TCL_OK) {
	return TCL_ERROR;
    }
    if (index == 1 && IocpNotifierHosts()) {
	return IocpError(interp, "cannot change the notifier back");
    }
    Tcl_SetObjResult(interp, Tcl_NewStringObj(names[index], -1));
    return TCL_OK;
}

/*
 * IocpModulePathObjCmd --
 *	iocp_module_path: the file that the driver was loaded from, as the original's last version
 *	told it.
 */
int
IocpModulePathObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    const char *path = IocpModulePath(&iocpStubs);

    (void)unused;
    if (objc != 1) {
	Tcl_WrongNumArgs(interp, 1, objv, NULL);
	return TCL_ERROR;
    }
    if (path == NULL) {
	return IocpError(interp, "couldn't retrieve module path: the system does not tell");
    }
    Tcl_SetObjResult(interp, Tcl_NewStringObj(path, -1));
    return TCL_OK;
}
