/*
 * capi.c --
 *	An extension that uses the driver from C, as anybody's would: built by capi.test with the
 *	installed header and stub library, outside of the sources. Command "capi"; see the table of
 *	subcommands at the end.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <tcl.h>
#include <iocpsock.h>

#if TCL_MAJOR_VERSION < 9
typedef int Tcl_Size;
#endif

typedef int SubProc(Tcl_Interp *interp, Tcl_Obj *const objv[]);

/*
 * Text --
 *	An argument as the interface takes it: NULL if it is empty.
 */
static const char *
Text(Tcl_Obj *objPtr)
{
    const char *string = Tcl_GetString(objPtr);

    return *string == '\0' ? NULL : string;
}

static int
Registered(Tcl_Interp *interp, Tcl_Channel channel)
{
    if (channel == NULL) {
	return TCL_ERROR;
    }
    Tcl_RegisterChannel(interp, channel);
    Tcl_SetObjResult(interp, Tcl_NewStringObj(Tcl_GetChannelName(channel), -1));
    return TCL_OK;
}

static int
PosixError(Tcl_Interp *interp)
{
    Tcl_SetObjResult(interp, Tcl_NewStringObj(Tcl_PosixError(interp), -1));
    return TCL_ERROR;
}

/*
 * client port host myaddr myport async
 */
static int
Client(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    int async;

    if (Tcl_GetBooleanFromObj(interp, objv[4], &async) != TCL_OK) {
	return TCL_ERROR;
    }
    return Registered(interp, Iocp_OpenTcpClient(interp, Text(objv[0]), Text(objv[1]),
	    Text(objv[2]), Text(objv[3]), async));
}

/*
 * client0 port host: without an interpreter to leave a message in.
 */
static int
Client0(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    return Registered(interp, Iocp_OpenTcpClient(NULL, Text(objv[0]), Text(objv[1]), NULL, NULL,
	    0));
}

typedef struct Server {
    Tcl_Interp *interp;
    Tcl_Obj *commandPtr;
} Server;

static void
Accept(void *clientData, Tcl_Channel channel, char *host, int port)
{
    Server *serverPtr = (Server *)clientData;
    Tcl_Obj *scriptPtr = Tcl_DuplicateObj(serverPtr->commandPtr);

    Tcl_RegisterChannel(serverPtr->interp, channel);
    Tcl_AppendPrintfToObj(scriptPtr, " %s %s %d", Tcl_GetChannelName(channel), host, port);
    Tcl_IncrRefCount(scriptPtr);
    if (Tcl_EvalObjEx(serverPtr->interp, scriptPtr, TCL_EVAL_GLOBAL) != TCL_OK) {
	Tcl_BackgroundException(serverPtr->interp, TCL_ERROR);
    }
    Tcl_DecrRefCount(scriptPtr);
}

static void
ServerClosed(void *clientData)
{
    Server *serverPtr = (Server *)clientData;

    Tcl_DecrRefCount(serverPtr->commandPtr);
    Tcl_Free((char *)serverPtr);
}

/*
 * server port host command
 */
static int
OpenServer(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Server *serverPtr = (Server *)Tcl_Alloc(sizeof(Server));
    Tcl_Channel channel;

    serverPtr->interp = interp;
    serverPtr->commandPtr = objv[2];
    Tcl_IncrRefCount(objv[2]);
    channel = Iocp_OpenTcpServer(interp, Text(objv[0]), Text(objv[1]), Accept, serverPtr);
    if (channel == NULL) {
	ServerClosed(serverPtr);
	return TCL_ERROR;
    }
    Tcl_CreateCloseHandler(channel, ServerClosed, serverPtr);
    return Registered(interp, channel);
}

/*
 * wrap descriptor: make a channel of it; failures as errno says them.
 */
static int
Wrap(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Channel channel;
    int fd;

    if (Tcl_GetIntFromObj(interp, objv[0], &fd) != TCL_OK) {
	return TCL_ERROR;
    }
    errno = 0;
    channel = Iocp_MakeTcpClientChannel((void *)(intptr_t)fd);
    return channel == NULL ? PosixError(interp) : Registered(interp, channel);
}

static int
Connected(int type, int port)
{
    struct sockaddr_in addr;
    int fd = socket(AF_INET, type, 0);

    memset(&addr, 0, sizeof(addr));
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons((uint16_t)port);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
	close(fd);
	return -1;
    }
    return fd;
}

/*
 * socket kind port: a descriptor that was opened without the driver. For port 0 nothing is
 * connected.
 */
static int
Socket(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    static const char *const kinds[] = {"tcp", "nonblocking", "udp", "listening", "unix", "file",
	NULL};
    enum { TCP, NONBLOCKING, UDP, LISTENING, UNIX, NO_SOCKET };
    int kind, port, fd = -1, pair[2];

    if (Tcl_GetIndexFromObj(interp, objv[0], kinds, "kind", 0, &kind) != TCL_OK
	    || Tcl_GetIntFromObj(interp, objv[1], &port) != TCL_OK) {
	return TCL_ERROR;
    }
    switch (kind) {
    case TCP:
    case NONBLOCKING:
	fd = port == 0 ? socket(AF_INET, SOCK_STREAM, 0) : Connected(SOCK_STREAM, port);
	break;
    case UDP:
	fd = port == 0 ? socket(AF_INET, SOCK_DGRAM, 0) : Connected(SOCK_DGRAM, port);
	break;
    case LISTENING:
	fd = socket(AF_INET, SOCK_STREAM, 0);
	listen(fd, 1);
	break;
    case UNIX:
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
	    close(pair[1]);
	    fd = pair[0];
	}
	break;
    case NO_SOCKET:
	fd = open("/dev/null", O_RDWR);
	break;
    }
    if (fd < 0) {
	return PosixError(interp);
    }
    if (kind == NONBLOCKING) {
	fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    Tcl_SetObjResult(interp, Tcl_NewIntObj(fd));
    return TCL_OK;
}

/*
 * flags descriptor: {close-on-exec non-blocking}, or the error of a descriptor that is not open.
 */
static int
Flags(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Obj *words[2];
    int fd;

    if (Tcl_GetIntFromObj(interp, objv[0], &fd) != TCL_OK) {
	return TCL_ERROR;
    }
    if (fcntl(fd, F_GETFD) < 0) {
	return PosixError(interp);
    }
    words[0] = Tcl_NewIntObj((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    words[1] = Tcl_NewIntObj((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    Tcl_SetObjResult(interp, Tcl_NewListObj(2, words));
    return TCL_OK;
}

/*
 * close descriptor
 */
static int
Close(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    int fd;

    if (Tcl_GetIntFromObj(interp, objv[0], &fd) != TCL_OK) {
	return TCL_ERROR;
    }
    return close(fd) < 0 ? PosixError(interp) : TCL_OK;
}

/*
 * handle channel read|write: what Tcl_GetChannelHandle says.
 */
static int
Handle(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(objv[0]), NULL);
    int direction = strcmp(Tcl_GetString(objv[1]), "read") == 0 ? TCL_READABLE : TCL_WRITABLE;
    void *handle = NULL;

    if (channel == NULL) {
	return TCL_ERROR;
    }
    if (Tcl_GetChannelHandle(channel, direction, &handle) != TCL_OK) {
	Tcl_SetObjResult(interp, Tcl_NewStringObj("no handle", -1));
	return TCL_ERROR;
    }
    Tcl_SetObjResult(interp, Tcl_NewWideIntObj((Tcl_WideInt)(intptr_t)handle));
    return TCL_OK;
}

/*
 * set channel option value, get channel option: without an interpreter; the result is the code.
 */
static int
SetOption(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(objv[0]), NULL);

    if (channel == NULL) {
	return TCL_ERROR;
    }
    Tcl_SetObjResult(interp, Tcl_NewIntObj(Tcl_SetChannelOption(NULL, channel,
	    Tcl_GetString(objv[1]), Tcl_GetString(objv[2]))));
    return TCL_OK;
}

static int
GetOption(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(objv[0]), NULL);
    Tcl_DString value;

    if (channel == NULL) {
	return TCL_ERROR;
    }
    Tcl_DStringInit(&value);
    Tcl_SetObjResult(interp, Tcl_NewIntObj(Tcl_GetChannelOption(NULL, channel,
	    Text(objv[1]), &value)));
    Tcl_DStringFree(&value);
    return TCL_OK;
}

/*
 * writeraw channel bytes: straight to the driver, as transforms do; how much it took.
 */
static int
WriteRaw(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    Tcl_Channel channel = Tcl_GetChannel(interp, Tcl_GetString(objv[0]), NULL);
    Tcl_Size size;
    const char *bytes = Tcl_GetStringFromObj(objv[1], &size);

    if (channel == NULL) {
	return TCL_ERROR;
    }
    Tcl_SetObjResult(interp, Tcl_NewWideIntObj(Tcl_WriteRaw(channel, bytes, size)));
    return TCL_OK;
}

/*
 * init version exact: look for the driver again.
 */
static int
Init(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    const char *version;
    int exact;

    if (Tcl_GetBooleanFromObj(interp, objv[1], &exact) != TCL_OK) {
	return TCL_ERROR;
    }
    version = Iocpsock_InitStubs(interp, Tcl_GetString(objv[0]), exact);
    if (version == NULL) {
	return TCL_ERROR;
    }
    Tcl_SetObjResult(interp, Tcl_NewStringObj(version, -1));
    return TCL_OK;
}

/*
 * table name: the address of the table that the package of the name has, and whether its magic,
 * epoch and size are those of the header.
 */
static int
Table(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    void *clientData = NULL;
    const IocpStubs *tablePtr;
    char text[80];

    if (Tcl_PkgRequireEx(interp, Tcl_GetString(objv[0]), "3.1", 0, &clientData) == NULL) {
	return TCL_ERROR;
    }
    tablePtr = (const IocpStubs *)clientData;
    snprintf(text, sizeof(text), "%p %d %d %d", clientData,
	    tablePtr->magic == IOCPSOCK_STUBS_MAGIC, tablePtr->epoch == IOCPSOCK_STUBS_EPOCH,
	    tablePtr->size == sizeof(IocpStubs));
    Tcl_SetObjResult(interp, Tcl_NewStringObj(text, -1));
    return TCL_OK;
}

/*
 * fake name version kind: provide a package that has no table (none), one of another kind (magic),
 * of a later epoch (epoch), a shorter one (short) or a longer one (long).
 */
static int
Fake(Tcl_Interp *interp, Tcl_Obj *const objv[])
{
    static IocpStubs table;
    const char *kind = Tcl_GetString(objv[2]);
    void *clientData = NULL;

    if (Tcl_PkgRequireEx(interp, "iocpsock", "3.1", 0, &clientData) == NULL) {
	return TCL_ERROR;
    }
    table = *(const IocpStubs *)clientData;
    if (strcmp(kind, "magic") == 0) {
	table.magic ^= 1;
    } else if (strcmp(kind, "epoch") == 0) {
	table.epoch++;
    } else if (strcmp(kind, "short") == 0) {
	table.size -= sizeof(void *);
    } else if (strcmp(kind, "long") == 0) {
	table.size += sizeof(void *);
    }
    return Tcl_PkgProvideEx(interp, Tcl_GetString(objv[0]), Tcl_GetString(objv[1]),
	    strcmp(kind, "none") == 0 ? NULL : &table);
}

static const struct {
    const char *name;
    int objc;
    SubProc *proc;
} subs[] = {
    {"client", 5, Client},
    {"client0", 2, Client0},
    {"close", 1, Close},
    {"fake", 3, Fake},
    {"flags", 1, Flags},
    {"get", 2, GetOption},
    {"handle", 2, Handle},
    {"init", 2, Init},
    {"server", 3, OpenServer},
    {"set", 3, SetOption},
    {"socket", 2, Socket},
    {"table", 1, Table},
    {"wrap", 1, Wrap},
    {"writeraw", 2, WriteRaw},
    {NULL, 0, NULL}
};

static int
CapiObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    int index;

    (void)unused;
    if (objc < 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "subcommand ?argument ...?");
	return TCL_ERROR;
    }
    if (Tcl_GetIndexFromObjStruct(interp, objv[1], subs, (Tcl_Size)sizeof(subs[0]), "subcommand",
	    0, &index) != TCL_OK) {
	return TCL_ERROR;
    }
    if (objc != subs[index].objc + 2) {
	Tcl_WrongNumArgs(interp, 2, objv, "...");
	return TCL_ERROR;
    }
    return subs[index].proc(interp, objv + 2);
}

/* What an extension that is loaded finds, and nothing else. */
extern __attribute__((visibility("default"))) int Capi_Init(Tcl_Interp *interp);

int
Capi_Init(Tcl_Interp *interp)
{
    if (Tcl_InitStubs(interp, TCL_VERSION, 0) == NULL
	    || Iocpsock_InitStubs(interp, "3.1", 0) == NULL) {
	return TCL_ERROR;
    }
    Tcl_CreateObjCommand(interp, "capi", CapiObjCmd, NULL, NULL);
    return Tcl_PkgProvide(interp, "capi", "1.0");
}
