/*
 * iocpsock.h --
 *	What libiocpsock offers to other C code: channels for Tcl extensions, and a few procedures
 *	for a host program, none of which needs a Tcl interpreter.
 *
 *	An extension is compiled with USE_IOCPSOCK_STUBS, linked with libiocpsockstub.a before its
 *	Tcl stub library, and calls in its Init procedure, after Tcl_InitStubs,
 *
 *	    if (Iocpsock_InitStubs(interp, "3.1", 0) == NULL) {
 *		return TCL_ERROR;
 *	    }
 *
 *	which loads the package. What it builds then is linked to no particular libiocpsock.
 */

#ifndef IOCPSOCK_H
#define IOCPSOCK_H

#include <stddef.h>
#include <tcl.h>

#if defined(_WIN32)
#   define IOCP_EXPORT __declspec(dllexport)
#else
#   define IOCP_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What Tcl's load looks for. */
IOCP_EXPORT int Iocpsock_Init(Tcl_Interp *interp);
IOCP_EXPORT int Iocpsock_SafeInit(Tcl_Interp *interp);

/*
 * Channels ----------------------------------------------------------------------------------
 *
 * They belong to the calling thread and are registered in no interpreter yet: give them to
 * Tcl_RegisterChannel, or close them. The procedures that take interp return NULL and leave a
 * message there if they fail; interp may be NULL. A port is a number or the name of a service;
 * NULL and "" mean any.
 */

/*
 * Connect to host, from myaddr and myport, both of which may be NULL. async not 0: return at once;
 * a writable event, -connecting and -error tell how it went.
 */
IOCP_EXPORT Tcl_Channel Iocp_OpenTcpClient(Tcl_Interp *interp, const char *port, const char *host,
	const char *myaddr, const char *myport, int async);

/*
 * Listen at the addresses of host, NULL: at all of this machine, IPv4 and IPv6 under one port.
 * acceptProc is called from the event loop with each connection, whose channel is its to register
 * or to close.
 */
IOCP_EXPORT Tcl_Channel Iocp_OpenTcpServer(Tcl_Interp *interp, const char *port, const char *host,
	Tcl_TcpAcceptProc *acceptProc, void *acceptData);

/*
 * Make a channel of a connected TCP socket: sock is its descriptor, cast to a pointer. The channel
 * owns it from then on, under the same number; the options it has stay (so that Nagle's algorithm
 * may be on), but that it becomes blocking and close-on-exec. On failure NULL, and Tcl_GetErrno
 * tells why: EBADF, ENOTSOCK, EPROTOTYPE (no stream), EAFNOSUPPORT (neither IPv4 nor IPv6),
 * ENOTCONN, or what stands against any channel (ENOMEM, EMFILE). The descriptor is as it was then.
 */
IOCP_EXPORT Tcl_Channel Iocp_MakeTcpClientChannel(void *sock);

/*
 * The table behind these names in an extension, published as the client data of the package. It
 * only ever grows at its end, and a place keeps its number: those up to 7 are iocpsock 3.0's, of
 * which 2 to 4 told of Windows errors (Tcl_ErrnoId, Tcl_ErrnoMsg and Tcl_PosixError do it here).
 */
#define IOCPSOCK_STUBS_MAGIC 0x10C9500C
#define IOCPSOCK_STUBS_EPOCH 1	/* Another one: nothing of the below holds. */

typedef struct IocpStubs {
    int magic;
    int epoch;
    size_t size;		/* Of the table, in bytes. */
    int (*iocpsock_Init)(Tcl_Interp *interp);						/* 0 */
    int (*iocpsock_SafeInit)(Tcl_Interp *interp);					/* 1 */
    void (*reserved2)(void);
    void (*reserved3)(void);
    void (*reserved4)(void);
    Tcl_Channel (*iocp_OpenTcpClient)(Tcl_Interp *interp, const char *port, const char *host,
	    const char *myaddr, const char *myport, int async);				/* 5 */
    Tcl_Channel (*iocp_OpenTcpServer)(Tcl_Interp *interp, const char *port, const char *host,
	    Tcl_TcpAcceptProc *acceptProc, void *acceptData);				/* 6 */
    Tcl_Channel (*iocp_MakeTcpClientChannel)(void *sock);				/* 7 */
} IocpStubs;

#ifdef USE_IOCP_STUBS		/* The name of old. */
#   define USE_IOCPSOCK_STUBS
#endif

#ifdef USE_IOCPSOCK_STUBS
extern const IocpStubs *iocpStubsPtr;	/* In libiocpsockstub.a, set by Iocpsock_InitStubs. */

/*
 * Returns the version of the package that is loaded; or NULL, with a message in interp, if there is
 * none as asked for. exact not 0: that version and no later one.
 */
const char *Iocpsock_InitStubs(Tcl_Interp *interp, const char *version, int exact);

#   define Iocpsock_Init (iocpStubsPtr->iocpsock_Init)
#   define Iocpsock_SafeInit (iocpStubsPtr->iocpsock_SafeInit)
#   define Iocp_OpenTcpClient (iocpStubsPtr->iocp_OpenTcpClient)
#   define Iocp_OpenTcpServer (iocpStubsPtr->iocp_OpenTcpServer)
#   define Iocp_MakeTcpClientChannel (iocpStubsPtr->iocp_MakeTcpClientChannel)
#else
#   define Iocpsock_InitStubs(interp, version, exact) \
	Tcl_PkgRequire(interp, "Iocpsock", version, exact)
#endif

/*
 * Host programs -----------------------------------------------------------------------------
 */

typedef struct IocpEngineInfo {
    const char *name;		/* "io_uring", "epoll"; static. */
    int usable;			/* 1 if it could be set up just now. */
    char reason[256];		/* Why it could not, in words; empty if it could. */
} IocpEngineInfo;

/* The version of the driver, as the package says it. */
IOCP_EXPORT const char *Iocp_Version(void);

/*
 * Try every engine of this build. Fills in at most max of them, in order of preference, and returns
 * how many there are.
 */
IOCP_EXPORT int Iocp_GetEngines(IocpEngineInfo *infosPtr, int max);

/*
 * The counters, by number from 0; a name is static. A value is that of the whole process (engine
 * NULL), or of the threads that the named engine serves or has served.
 */
IOCP_EXPORT int Iocp_StatCount(void);
IOCP_EXPORT const char *Iocp_StatName(int index);
IOCP_EXPORT unsigned long long Iocp_StatValue(const char *engine, int index);

/*
 * Send what channels of the calling thread that are closed already still have to send: for at most
 * timeoutMs (-1: no limit), and for each channel at most its -linger. Returns 1 if all is out, 0
 * if not. What is not out by then, the exit of the process and the end of the thread's last
 * interpreter no longer wait for.
 */
IOCP_EXPORT int Iocp_Drain(int timeoutMs);

#ifdef __cplusplus
}
#endif

#endif /* IOCPSOCK_H */
