/*
 * iocpStubs.c --
 *	The C interface for extensions, and the table by which they find it.
 */

#include "iocpInt.h"

/*
 * GetPort --
 *	NULL and "" mean any port.
 */
static int
GetPort(Tcl_Interp *interp, const char *string, int *portPtr)
{
    *portPtr = 0;
    return string == NULL || *string == '\0' ? TCL_OK
	    : IocpAddrGetPort(interp, string, portPtr);
}

Tcl_Channel
Iocp_OpenTcpClient(Tcl_Interp *interp, const char *port, const char *host, const char *myaddr,
	const char *myport, int async)
{
    int remote, local;

    if (GetPort(interp, port, &remote) != TCL_OK || GetPort(interp, myport, &local) != TCL_OK) {
	return NULL;
    }
    return IocpOpenClient(interp, remote, host, myaddr, local, async,
	    &iocpDefaultSettings);
}

Tcl_Channel
Iocp_OpenTcpServer(Tcl_Interp *interp, const char *port, const char *host,
	Tcl_TcpAcceptProc *acceptProc, void *acceptData)
{
    int local;

    if (GetPort(interp, port, &local) != TCL_OK) {
	return NULL;
    }
    return IocpOpenServer(interp, local, host, acceptProc, acceptData, 0,
	    &iocpDefaultSettings);
}

/*
 * Iocp_MakeTcpClientChannel --
 *	The caller's socket becomes the channel's only when nothing can fail any more. Its number
 *	stays (no IocpSocketRaise): the caller may know the socket by it.
 */
Tcl_Channel
Iocp_MakeTcpClientChannel(void *sock)
{
    char reason[256];
    IocpSocket fd = (IocpSocket)(intptr_t)sock;
    int error = IocpSocketCheck(fd, 0);
    IocpThread *threadPtr;
    IocpChan *chanPtr;

    if (error != 0) {
	Tcl_SetErrno(error);
	return NULL;
    }
    threadPtr = IocpThreadGet(reason, sizeof(reason));
    if (threadPtr == NULL) {
	Tcl_SetErrno(errno);
	return NULL;
    }
    chanPtr = IocpChanNew(threadPtr, fd, IOCP_OPEN);
    if (chanPtr == NULL) {
	IocpThreadRelease(threadPtr);
	Tcl_SetErrno(ENOMEM);
	return NULL;
    }
    IocpSocketAdopt(fd);
    return IocpChanCreate(NULL, chanPtr, TCL_READABLE | TCL_WRITABLE) == TCL_OK
	    ? chanPtr->channel : NULL;
}

const IocpStubs iocpStubs = {
    .magic = IOCPSOCK_STUBS_MAGIC,
    .epoch = IOCPSOCK_STUBS_EPOCH,
    .size = sizeof(IocpStubs),
    .iocpsock_Init = Iocpsock_Init,
    .iocpsock_SafeInit = Iocpsock_SafeInit,
    .iocp_OpenTcpClient = Iocp_OpenTcpClient,
    .iocp_OpenTcpServer = Iocp_OpenTcpServer,
    .iocp_MakeTcpClientChannel = Iocp_MakeTcpClientChannel
};
