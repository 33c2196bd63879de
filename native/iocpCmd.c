/*
 * iocpCmd.c --
 *	The script commands: socket2, iocp::engine, iocp::engines.
 */

#include "iocpInt.h"

/*
 * WrongArgs --
 *	The core's message with both forms. Tcl_WrongNumArgs knows the name that the command was
 *	called by (an alias, perhaps); the second form repeats it.
 */
static int
WrongArgs(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    static const char *const client = "?-myaddr addr? ?-myport myport? ?-async? host port";
    const char *message, *first, *last;
    Tcl_Obj *resultPtr;

    Tcl_WrongNumArgs(interp, 1, objv, client);
    message = Tcl_GetString(Tcl_GetObjResult(interp));
    first = strchr(message, '"');
    last = strstr(message, client);
    resultPtr = Tcl_NewStringObj(message, -1);
    if (first != NULL && last != NULL) {
	Tcl_AppendPrintfToObj(resultPtr, " or \"%.*s-server command ?-myaddr addr? port\"",
		(int)(last - first - 1), first + 1);
    }
    Tcl_SetObjResult(interp, resultPtr);
    return TCL_ERROR;
}

static int
Error(Tcl_Interp *interp, const char *message)
{
    Tcl_SetObjResult(interp, Tcl_NewStringObj(message, -1));
    return TCL_ERROR;
}

/*
 * IocpSocketObjCmd --
 *	socket2: the syntax and the messages of the core's socket.
 */
int
IocpSocketObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    static const char *const optionNames[] = {"-async", "-myaddr", "-myport", "-server", NULL};
    enum { OPT_ASYNC, OPT_MYADDR, OPT_MYPORT, OPT_SERVER } option;
    const char *host = NULL, *myaddr = NULL;
    Tcl_Obj *scriptPtr = NULL;
    int async = 0, myport = 0, port, index, i;
    Tcl_Channel channel;

    (void)unused;
    for (i = 1; i < objc && Tcl_GetString(objv[i])[0] == '-'; i++) {
	if (Tcl_GetIndexFromObj(interp, objv[i], optionNames, "option", TCL_EXACT, &index)
		!= TCL_OK) {
	    return TCL_ERROR;
	}
	option = index;
	if ((option == OPT_ASYNC && scriptPtr != NULL) || (option == OPT_SERVER && async)) {
	    return Error(interp, "cannot set -async option for server sockets");
	}
	if (option == OPT_ASYNC) {
	    async = 1;
	    continue;
	}
	if (++i >= objc) {
	    Tcl_SetObjResult(interp, Tcl_ObjPrintf("no argument given for %s option",
		    optionNames[option]));
	    return TCL_ERROR;
	}
	if (option == OPT_MYADDR) {
	    myaddr = Tcl_GetString(objv[i]);
	} else if (option == OPT_SERVER) {
	    scriptPtr = objv[i];
	} else if (IocpAddrGetPort(interp, Tcl_GetString(objv[i]), &myport) != TCL_OK) {
	    return TCL_ERROR;
	}
    }
    if (scriptPtr != NULL && myport != 0) {
	return Error(interp, "option -myport is not valid for servers");
    }
    if (scriptPtr == NULL && i < objc) {
	host = Tcl_GetString(objv[i++]);
    }
    if (i != objc - 1 || (scriptPtr == NULL && host == NULL)) {
	return WrongArgs(interp, objv);
    }
    if (IocpAddrGetPort(interp, Tcl_GetString(objv[i]), &port) != TCL_OK) {
	return TCL_ERROR;
    }
    if (scriptPtr == NULL) {
	channel = IocpOpenClient(interp, port, host, myaddr, myport, async);
    } else {
	IocpAcceptScript *acceptPtr = IocpAcceptScriptNew(interp, Tcl_GetString(scriptPtr));

	channel = IocpOpenServer(interp, port, myaddr, IocpAcceptProc, acceptPtr);
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
    Tcl_SetObjResult(interp, Tcl_NewStringObj(Tcl_GetChannelName(channel), -1));
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
	return Error(interp, reason);
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
