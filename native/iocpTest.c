/*
 * iocpTest.c --
 *	What only the tests use (-Dtesting=true): allocations and ops that fail to order.
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
 * iocp::test alloc ?count?: let count more allocations succeed and the next one fail; without
 * count, let none fail. Returns 1 if the one that was to fail has not been reached yet.
 */
static int
Alloc(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    int count = -1, pending;

    if (objc > 3) {
	Tcl_WrongNumArgs(interp, 2, objv, "?count?");
	return TCL_ERROR;
    }
    if (objc == 3 && Tcl_GetIntFromObj(interp, objv[2], &count) != TCL_OK) {
	return TCL_ERROR;
    }
    pending = atomic_exchange(&allocationsLeft, count) >= 0;
    Tcl_SetObjResult(interp, Tcl_NewBooleanObj(pending));
    return TCL_OK;
}

/*
 * iocp::test fault kind error ?count? ?skip?: on this thread's engine let skip ops of the kind
 * pass and the next count of them fail. error is a number of errno.h, a name of the table, or busy.
 *
 * iocp::test fault: forget what is ordered. Returns how many have failed since this was last asked.
 */
static int
Fault(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    static const char *const kinds[] = {"accept", "connect", "recv", "send", "file", "write",
	"sendnow", NULL};
    static const struct {
	const char *name;
	int result;
    } errors[] = {
	{"busy", IOCP_FAULT_BUSY}, {"EAGAIN", -EAGAIN}, {"ECONNABORTED", -ECONNABORTED},
	{"ECONNRESET", -ECONNRESET}, {"EINTR", -EINTR}, {"EINVAL", -EINVAL}, {"EIO", -EIO},
	{"EMFILE", -EMFILE}, {"ENFILE", -ENFILE}, {"ENOBUFS", -ENOBUFS}, {"ENOMEM", -ENOMEM},
	{"ENOSPC", -ENOSPC}, {"EPIPE", -EPIPE}, {"ETIMEDOUT", -ETIMEDOUT}, {NULL, 0}
    };
    char reason[256];
    IocpThread *threadPtr = IocpThreadGet(reason, sizeof(reason));
    int kind, error, number, result, count = 1, skip = 0;

    if (threadPtr == NULL) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj(reason, -1));
	return TCL_ERROR;
    }
    if (objc == 2) {
	Tcl_SetObjResult(interp, Tcl_NewIntObj(IocpFaultsEnd()));
	return TCL_OK;
    }
    if (objc < 4 || objc > 6) {
	Tcl_WrongNumArgs(interp, 2, objv, "?kind error ?count? ?skip??");
	return TCL_ERROR;
    }
    if (Tcl_GetIndexFromObj(interp, objv[2], kinds, "kind", TCL_EXACT, &kind) != TCL_OK) {
	return TCL_ERROR;
    }
    if (Tcl_GetIntFromObj(NULL, objv[3], &number) == TCL_OK) {
	result = -number;
    } else if (Tcl_GetIndexFromObjStruct(interp, objv[3], errors, sizeof(errors[0]), "error",
	    TCL_EXACT, &error) == TCL_OK) {
	result = errors[error].result;
    } else {
	return TCL_ERROR;
    }
    if ((objc > 4 && Tcl_GetIntFromObj(interp, objv[4], &count) != TCL_OK)
	    || (objc > 5 && Tcl_GetIntFromObj(interp, objv[5], &skip) != TCL_OK)) {
	return TCL_ERROR;
    }
    IocpFaultOrder(threadPtr->enginePtr, kind, result, count, skip);
    return TCL_OK;
}

/*
 * iocp::test proxy bytes: what the header of a proxy says, {length known ?peer local?}, each of
 * these {ip name port}.
 */
static int
Proxy(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    IocpProxyAddrs addrs = {0};
    const IocpSockaddr *addrPtrs[] = {&addrs.peer, &addrs.local};
    Tcl_DString result;
    Tcl_Size size;
    char *bytes, *copy;

    if (objc != 3) {
	Tcl_WrongNumArgs(interp, 2, objv, "bytes");
	return TCL_ERROR;
    }

    /*
     * A copy of just this size, so that a sanitizer sees who reads beyond it.
     */

    bytes = (char *)Tcl_GetByteArrayFromObj(objv[2], &size);
    copy = malloc((size_t)size + (size == 0));
    if (copy == NULL) {
	Tcl_Panic("unable to alloc %lu bytes", (unsigned long)size);
    }
    memcpy(copy, bytes, (size_t)size);
    Tcl_DStringInit(&result);
    IocpAppendInt(&result, IocpProxyParse(copy, (size_t)size, &addrs));
    IocpAppendInt(&result, addrs.known);
    free(copy);
    for (int i = 0; i < 2 && addrs.known; i++) {
	Tcl_DStringStartSublist(&result);
	IocpAddrAppend(interp, &result, addrPtrs[i], IocpAddrLength(addrPtrs[i]));
	Tcl_DStringEndSublist(&result);
    }
    Tcl_DStringResult(interp, &result);
    return TCL_OK;
}

/*
 * iocp::test nodelay channel: TCP_NODELAY as the kernel has it, which -nagle does not say in a
 * stream.
 */
static int
Nodelay(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    Tcl_Channel channel;
    IocpChan *chanPtr;
    int64_t value = 0;

    if (objc != 3) {
	Tcl_WrongNumArgs(interp, 2, objv, "channel");
	return TCL_ERROR;
    }
    channel = Tcl_GetChannel(interp, Tcl_GetString(objv[2]), NULL);
    if (channel == NULL) {
	return TCL_ERROR;
    }
    chanPtr = IocpChanOf(channel);
    if (chanPtr == NULL || IocpSocketGet(chanPtr->handle.fd, IOCP_SO_NODELAY, &value) != 0) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj("not a connection of socket2", -1));
	return TCL_ERROR;
    }
    Tcl_SetObjResult(interp, Tcl_NewBooleanObj(value != 0));
    return TCL_OK;
}

/*
 * IocpTestObjCmd --
 *	iocp::test subcommand ?arg ...?
 */
int
IocpTestObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    static const struct {
	const char *name;
	int (*proc)(Tcl_Interp *interp, int objc, Tcl_Obj *const objv[]);
    } subcommands[] = {
	{"alloc", Alloc}, {"fault", Fault}, {"nodelay", Nodelay}, {"proxy", Proxy}, {NULL, NULL}
    };
    int index;

    (void)unused;
    if (objc < 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "subcommand ?arg ...?");
	return TCL_ERROR;
    }
    if (Tcl_GetIndexFromObjStruct(interp, objv[1], subcommands, sizeof(subcommands[0]),
	    "subcommand", TCL_EXACT, &index) != TCL_OK) {
	return TCL_ERROR;
    }
    return subcommands[index].proc(interp, objc, objv);
}
