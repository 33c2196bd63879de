/*
 * iocpTest.c --
 *	What only the tests use (-Dtesting=true): allocations that fail on demand.
 */

#include "iocpInt.h"

static _Atomic int allocationsLeft = -1;	/* -1: as many as there is memory for. */

/*
 * IocpTestOutOfMemory --
 *	1 if the allocation that asks is the one that is to fail. Those after it succeed again.
 */
int
IocpTestOutOfMemory(void)
{
    int left = atomic_load(&allocationsLeft);

    if (left < 0) {
	return 0;
    }
    atomic_store(&allocationsLeft, left - 1);
    return left == 0;
}

/*
 * IocpTestObjCmd --
 *	iocp::test alloc ?count?: let count more allocations succeed and the next one fail; without
 *	count, let none fail. Returns 1 if the one that was to fail has not been reached yet.
 */
int
IocpTestObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    int count = -1, pending;

    (void)unused;
    if (objc < 2 || objc > 3 || strcmp(Tcl_GetString(objv[1]), "alloc") != 0) {
	Tcl_WrongNumArgs(interp, 1, objv, "alloc ?count?");
	return TCL_ERROR;
    }
    if (objc == 3 && Tcl_GetIntFromObj(interp, objv[2], &count) != TCL_OK) {
	return TCL_ERROR;
    }
    pending = atomic_exchange(&allocationsLeft, count) >= 0;
    Tcl_SetObjResult(interp, Tcl_NewBooleanObj(pending));
    return TCL_OK;
}
