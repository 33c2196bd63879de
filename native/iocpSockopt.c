/*
 * iocpSockopt.c --
 *	The channel options that are the kernel's to keep: each is set on every socket of the
 *	channel and remembered for the sockets that it is still to have.
 */

#include "iocpInt.h"

typedef enum Kind {
    FLAG,			/* A boolean. */
    REVERSE,			/* A boolean, and the kernel means the opposite. */
    BYTES			/* A number of bytes. */
} Kind;

static const struct {
    const char *name;
    IocpSockopt which;
    Kind kind;
} sockopts[] = {
    {"-keepalive", IOCP_SO_KEEPALIVE, FLAG},
    {"-nagle", IOCP_SO_NODELAY, REVERSE},
    {"-nodelay", IOCP_SO_NODELAY, FLAG},
    {"-reuseaddr", IOCP_SO_REUSEADDR, FLAG},
    {"-reuseport", IOCP_SO_REUSEPORT, FLAG},
    {"-sorcvbuf", IOCP_SO_RCVBUF, BYTES},
    {"-sosndbuf", IOCP_SO_SNDBUF, BYTES},
};

/*
 * The fields of -qos. Above 6, a priority is the administrator's.
 */
static const struct {
    const char *name;		/* Must be first: Tcl_GetIndexFromObjStruct. */
    IocpSockopt which;
    Tcl_WideInt max;
} qosFields[] = {
    {"tclass", IOCP_SO_TCLASS, 255},
    {"priority", IOCP_SO_PRIORITY, INT32_MAX},
    {"pacing", IOCP_SO_PACING, INT64_MAX},
    {NULL, 0, 0}
};

static size_t
Find(const char *name)
{
    size_t i = 0;

    while (strcmp(name, sockopts[i].name) != 0) {
	i++;
    }
    return i;
}

static int
Failed(Tcl_Interp *interp, const char *verb, const char *name)
{
    char what[64];

    snprintf(what, sizeof(what), "couldn't %s %s socket option", verb, name);
    return IocpSystemError(interp, what);
}

/*
 * Borrow, Return --
 *	A socket to ask or to try a setting on: the channel's first; or, while it has none, a new
 *	one as it would get it.
 */
static IocpSocket
Borrow(IocpChan *chanPtr)
{
    IocpSocket fd = IocpSocketAt(chanPtr, 0);

    return fd != IOCP_NO_SOCKET ? fd : IocpSocketNew(AF_INET, chanPtr->settingsPtr);
}

static void
Return(IocpChan *chanPtr, IocpSocket fd)
{
    if (fd != IocpSocketAt(chanPtr, 0)) {
	IocpSocketClose(fd);
    }
}

/*
 * Get --
 *	What the kernel has for the channel. name is for the error.
 */
static int
Get(Tcl_Interp *interp, IocpChan *chanPtr, IocpSockopt which, const char *name, int64_t *valuePtr)
{
    IocpSocket fd = Borrow(chanPtr);
    int result, error;

    if (fd == IOCP_NO_SOCKET) {
	return Failed(interp, "get", name);
    }
    result = IocpSocketGet(fd, which, valuePtr);
    error = errno;
    if (which == IOCP_SO_NODELAY && IocpStreamLasts(chanPtr)) {
	*valuePtr = 1;
    }
    Return(chanPtr, fd);
    errno = error;
    return result < 0 ? Failed(interp, "get", name) : TCL_OK;
}

/*
 * Set --
 *	Set it on all sockets of the channel, and remember it.
 */
static int
Set(Tcl_Interp *interp, IocpChan *chanPtr, IocpSockopt which, const char *name, int64_t value)
{
    IocpSettings before = *chanPtr->settingsPtr, settings = before;
    IocpSocket fd;
    int result, error;

    settings.sockopts[which] = value;
    if (!IocpSettingsPut(chanPtr, &settings)) {
	errno = ENOMEM;
	return Failed(interp, "set", name);
    }
    fd = Borrow(chanPtr);
    if (fd == IOCP_NO_SOCKET) {
	IocpSettingsPut(chanPtr, &before);
	return Failed(interp, "set", name);
    }
    if (which == IOCP_SO_NODELAY) {
	IocpStreamEnd(chanPtr);
    }
    result = IocpSocketSet(fd, which, value);
    for (int i = 1; i < IocpSocketCount(chanPtr) && result == 0; i++) {
	result = IocpSocketSet(IocpSocketAt(chanPtr, i), which, value);
    }
    error = errno;
    Return(chanPtr, fd);
    if (result < 0) {
	IocpSettingsPut(chanPtr, &before);
	errno = error;
	return Failed(interp, "set", name);
    }
    return TCL_OK;
}

/*
 * IocpSockoptGet, IocpSockoptSet --
 *	One of the options of the table.
 */
int
IocpSockoptGet(Tcl_Interp *interp, IocpChan *chanPtr, const char *name, Tcl_DString *dsPtr)
{
    size_t i = Find(name);
    int64_t value;

    if (Get(interp, chanPtr, sockopts[i].which, name + 1, &value) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpAppendInt(dsPtr, sockopts[i].kind == BYTES ? value
	    : sockopts[i].kind == FLAG ? value != 0 : value == 0);
    return TCL_OK;
}

int
IocpSockoptSet(Tcl_Interp *interp, IocpChan *chanPtr, const char *name, const char *value)
{
    size_t i = Find(name);
    int number;

    if (sockopts[i].kind == BYTES) {
	if (Tcl_GetInt(interp, value, &number) != TCL_OK) {
	    return TCL_ERROR;
	}
	if (number < 0) {
	    return IocpError(interp, "only a number of bytes, zero or more, is allowed");
	}
    } else {
	if (Tcl_GetBoolean(interp, value, &number) != TCL_OK) {
	    return TCL_ERROR;
	}
	number = (number != 0) == (sockopts[i].kind == FLAG);
    }
    return Set(interp, chanPtr, sockopts[i].which, name + 1, number);
}

/*
 * -protocol: tcp or mptcp, whichever the kernel speaks.
 */
int
IocpSockoptGetProtocol(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    IocpSocket fd = Borrow(chanPtr);

    if (fd == IOCP_NO_SOCKET) {
	return Failed(interp, "get", "protocol");
    }
    Tcl_DStringAppendElement(dsPtr, IocpSocketProtocol(fd) == IOCP_MPTCP ? "mptcp" : "tcp");
    Return(chanPtr, fd);
    return TCL_OK;
}

/*
 * -qos: a dict with the fields of the table that the protocol has. Setting some leaves the others
 * as they are.
 */
int
IocpSockoptGetQos(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr)
{
    for (int i = 0; qosFields[i].name != NULL; i++) {
	int64_t value;

	if (Get(interp, chanPtr, qosFields[i].which, qosFields[i].name, &value) == TCL_OK) {
	    Tcl_DStringAppendElement(dsPtr, qosFields[i].name);
	    IocpAppendInt(dsPtr, value);
	} else if (errno != EOPNOTSUPP) {
	    return TCL_ERROR;
	}
    }
    return TCL_OK;
}

/*
 * IocpQosParse --
 *	Put the fields that a dict has into settings.
 * Results:
 *	TCL_OK; or TCL_ERROR with a message in interp (which may be NULL), and the settings are of
 *	no use.
 */
int
IocpQosParse(Tcl_Interp *interp, const char *value, int64_t *settings)
{
    Tcl_Obj *dictPtr = Tcl_NewStringObj(value, -1), *keyPtr, *fieldPtr;
    Tcl_DictSearch search;
    int done = 1, result, index;

    Tcl_IncrRefCount(dictPtr);
    result = Tcl_DictObjFirst(NULL, dictPtr, &search, &keyPtr, &fieldPtr, &done);
    if (result != TCL_OK && interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf(
		"expected a dict of tclass, priority, and pacing but got \"%s\"", value));
	Tcl_SetErrorCode(interp, "TCL", "VALUE", "DICTIONARY", NULL);
    }
    while (result == TCL_OK && !done) {
	Tcl_WideInt number;

	if (Tcl_GetIndexFromObjStruct(interp, keyPtr, qosFields, sizeof(qosFields[0]),
		"quality of service field", TCL_EXACT, &index) != TCL_OK
		|| Tcl_GetWideIntFromObj(interp, fieldPtr, &number) != TCL_OK) {
	    result = TCL_ERROR;
	} else if (number < 0 || number > qosFields[index].max) {
	    char message[100];

	    snprintf(message, sizeof(message), "only a number from 0 to %lld is allowed for %s",
		    (long long)qosFields[index].max, qosFields[index].name);
	    if (interp != NULL) {
		IocpError(interp, message);
	    }
	    result = TCL_ERROR;
	} else {
	    settings[qosFields[index].which] = number;
	    Tcl_DictObjNext(&search, &keyPtr, &fieldPtr, &done);
	}
    }
    if (!done) {
	Tcl_DictObjDone(&search);
    }
    Tcl_DecrRefCount(dictPtr);
    return result;
}

int
IocpSockoptSetQos(Tcl_Interp *interp, IocpChan *chanPtr, const char *value)
{
    int64_t wanted[IOCP_SO_COUNT];

    for (int i = 0; i < IOCP_SO_COUNT; i++) {
	wanted[i] = -1;
    }
    if (IocpQosParse(interp, value, wanted) != TCL_OK) {
	return TCL_ERROR;
    }

    /*
     * From a new traffic class the kernel derives a new priority, unless one was asked for.
     */

    if (wanted[IOCP_SO_TCLASS] >= 0 && wanted[IOCP_SO_PRIORITY] < 0) {
	wanted[IOCP_SO_PRIORITY] = chanPtr->settingsPtr->sockopts[IOCP_SO_PRIORITY];
    }
    for (int i = 0; qosFields[i].name != NULL; i++) {
	IocpSockopt which = qosFields[i].which;

	if (wanted[which] >= 0
		&& Set(interp, chanPtr, which, qosFields[i].name, wanted[which]) != TCL_OK) {
	    return TCL_ERROR;
	}
    }
    return TCL_OK;
}
