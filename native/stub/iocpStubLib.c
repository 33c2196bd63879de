/*
 * iocpStubLib.c --
 *	libiocpsockstub.a, which extensions link: it finds the table of the libiocpsock that Tcl has
 *	loaded. The same archive serves Tcl 8.6 and 9.
 */

#define USE_IOCPSOCK_STUBS
#include "../iocpsock.h"

const IocpStubs *iocpStubsPtr = NULL;

const char *
Iocpsock_InitStubs(Tcl_Interp *interp, const char *version, int exact)
{
    void *clientData = NULL;
    const char *actual = Tcl_PkgRequireEx(interp, "Iocpsock", version, exact, &clientData);
    const IocpStubs *stubsPtr = (const IocpStubs *)clientData;

    if (actual == NULL) {
	return NULL;
    }
    if (stubsPtr == NULL || stubsPtr->magic != IOCPSOCK_STUBS_MAGIC
	    || stubsPtr->epoch != IOCPSOCK_STUBS_EPOCH || stubsPtr->size < sizeof(IocpStubs)) {
	Tcl_ResetResult(interp);
	Tcl_AppendResult(interp, "package Iocpsock ", actual, stubsPtr == NULL
		? " has no C interface"
		: " has another C interface than this extension was built for", (char *)NULL);
	return NULL;
    }
    iocpStubsPtr = stubsPtr;
    return actual;
}
