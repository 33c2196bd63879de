/*
 * iocpInit.c --
 *	Loading: the procedures that Tcl's load command looks for.
 */

#include "iocpInt.h"

static const struct {
    const char *name;
    Tcl_ObjCmdProc *proc;
} commands[] = {
    {"socket2", IocpSocketObjCmd},
    {"iocp_module_path", IocpModulePathObjCmd},
    {"iocp_stats", IocpStatsObjCmd},
    {"::iocp::copied", IocpCopiedObjCmd},
    {"::iocp::engine", IocpEngineObjCmd},
    {"::iocp::engines", IocpEnginesObjCmd},
    {"::iocp::inherit", IocpInheritObjCmd},
    {"::iocp::notifier", IocpNotifierObjCmd},
    {"::iocp::stats", IocpStatsDictObjCmd},
#ifdef IOCP_TESTING
    {"::iocp::test", IocpTestObjCmd},
#endif
};

const char *
Iocp_Version(void)
{
    return IOCP_VERSION;
}

/*
 * Iocpsock_Init --
 *	load libiocpsock.so Iocpsock. Fails if no engine can run here, or if the one that
 *	TCLCHAN_ENGINE names cannot.
 */
int
Iocpsock_Init(Tcl_Interp *interp)
{
    char reason[256];
    IocpThread *threadPtr;

    if (Tcl_InitStubs(interp, "8.6-", 0) == NULL) {
	return TCL_ERROR;
    }
    threadPtr = IocpThreadGet(reason, sizeof(reason));
    if (threadPtr == NULL) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj(reason, -1));
	return TCL_ERROR;
    }
    IocpThreadAddInterp(threadPtr, interp);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
	Tcl_CreateObjCommand(interp, commands[i].name, commands[i].proc, NULL, NULL);
    }

    IocpCopyInit(interp);

    /*
     * The original is Iocpsock; lower case is what people type.
     */

    if (Tcl_PkgProvideEx(interp, "iocpsock", IOCP_VERSION, &iocpStubs) != TCL_OK) {
	return TCL_ERROR;
    }
    return Tcl_PkgProvideEx(interp, "Iocpsock", IOCP_VERSION, &iocpStubs);
}

/*
 * Iocpsock_SafeInit --
 *	The same for a safe interpreter, where socket2 is hidden, as the core hides socket: its
 *	master may expose it or grant single connections. So is what tells of the file system.
 *	What reaches for the descriptors of the process is not there (no command of a namespace can
 *	be hidden).
 */
int
Iocpsock_SafeInit(Tcl_Interp *interp)
{
    if (Iocpsock_Init(interp) != TCL_OK
	    || Tcl_HideCommand(interp, "iocp_module_path", "iocp_module_path") != TCL_OK) {
	return TCL_ERROR;
    }
    Tcl_DeleteCommand(interp, "::iocp::inherit");
    return Tcl_HideCommand(interp, "socket2", "socket2");
}
