/*
 * noHost.c --
 *	Where there is no host mode (iocpNotify.c): Tcl's own notifier waits for windows' messages,
 *	and so do the core's pipes, consoles and sockets.
 */

#include "../iocpInt.h"

int
IocpNotifierHosts(void)
{
    return 0;
}

/*
 * IocpNotifierSelects --
 *	No descriptor is too high for Tcl's notifier.
 */
int
IocpNotifierSelects(void)
{
    return 0;
}

void
IocpNotifierRest(void)
{
}

/*
 * IocpNotifierObjCmd --
 *	iocp::notifier ?ring|tcl?: it is Tcl's, and stays that.
 */
int
IocpNotifierObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    static const char *const names[] = {"ring", "tcl", NULL};
    int index = 1;

    (void)unused;
    if (objc > 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "?ring|tcl?");
	return TCL_ERROR;
    }
    if (objc == 2 && Tcl_GetIndexFromObj(interp, objv[1], names, "notifier", TCL_EXACT, &index)
	    != TCL_OK) {
	return TCL_ERROR;
    }
    if (index == 0) {
	return IocpError(interp, "cannot change the notifier: on this system, Tcl's event loop"
		" waits with its own");
    }
    Tcl_SetObjResult(interp, Tcl_NewStringObj(names[index], -1));
    return TCL_OK;
}
