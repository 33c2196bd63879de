/*
 * The C side of tclchan._ffi: the host procedures of libiocpsock, which this module is linked to,
 * and one thing that Tcl offers to other threads and tkinter does not.
 */

#include <stdint.h>
#include <tcl.h>
#include "iocpsock.h"

/*
 * TclchanInit --
 *	Make TclchanUnwind work. To be called on the thread of the interpreter.
 * Results:
 *	1, or 0 if this Tcl is not the one that the module was built for.
 */
static int
TclchanInit(
    uintptr_t interpAddr)	/* What tkinter's interpaddr() says. */
{
    if (Tcl_InitStubs((Tcl_Interp *) interpAddr, TCL_VERSION, 0) == NULL) {
	Tcl_ResetResult((Tcl_Interp *) interpAddr);
	return 0;
    }
    return 1;
}

/*
 * TclchanUnwind --
 *	End whatever script the interpreter is evaluating, though it may compute without ever
 *	entering the event loop, and though it may catch errors. May be called on any thread: Tcl
 *	looks the address up in a table, so that a deleted interpreter does no harm.
 * Results:
 *	1, or 0 if there is no such interpreter.
 */
static int
TclchanUnwind(
    uintptr_t interpAddr)
{
    return tclStubsPtr != NULL && Tcl_CancelEval((Tcl_Interp *) interpAddr, NULL, NULL,
	    TCL_CANCEL_UNWIND) == TCL_OK;
}
