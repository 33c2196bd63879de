/*
 * iocpAddr.c --
 *	Names, ports, addresses and new sockets, as the core's socket command treats them.
 */

#include "iocpInt.h"

/*
 * With Tcl's own notifier of 8.6, a file event on a descriptor above 1,023 aborts the process. So
 * that thousands of connections leave room for files and pipes, sockets take the numbers below
 * LOW_FDS and those from HIGH_FDS on.
 */
#define LOW_FDS 512
#define HIGH_FDS 1024

/*
 * IocpOpenError --
 *	"couldn't open socket: ..." with errorCode POSIX, as the core says it.
 */
void
IocpOpenError(Tcl_Interp *interp, int error)
{
    if (interp != NULL) {
	Tcl_SetErrno(error);
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't open socket: %s",
		Tcl_PosixError(interp)));
    }
}

/*
 * IocpAddrGetPort --
 *	A port number or the name of a service. interp may be NULL.
 */
int
IocpAddrGetPort(Tcl_Interp *interp, const char *string, int *portPtr)
{
    if (Tcl_GetInt(NULL, string, portPtr) != TCL_OK) {
	struct servent *servicePtr = getservbyname(string, "tcp");

	if (servicePtr != NULL) {
	    *portPtr = ntohs((uint16_t)servicePtr->s_port);
	    return TCL_OK;
	}
	return Tcl_GetInt(interp, string, portPtr);
    }
    if (*portPtr > 0xFFFF) {
	if (interp != NULL) {
	    Tcl_SetObjResult(interp, Tcl_NewStringObj(
		    "couldn't open socket: port number too high", -1));
	}
	return TCL_ERROR;
    }
    return TCL_OK;
}

/*
 * BindOrder --
 *	IPv4 addresses before IPv6 ones, otherwise in the resolver's order: -sockname of a listener
 *	begins with the address that scripts have always seen there.
 */
static struct addrinfo *
BindOrder(struct addrinfo *listPtr)
{
    struct addrinfo *firstPtr = NULL, *othersPtr = NULL;
    struct addrinfo **firstEndPtr = &firstPtr, **othersEndPtr = &othersPtr;

    for (; listPtr != NULL; listPtr = listPtr->ai_next) {
	struct addrinfo ***endPtrPtr = listPtr->ai_family == AF_INET
		? &firstEndPtr : &othersEndPtr;

	**endPtrPtr = listPtr;
	*endPtrPtr = &listPtr->ai_next;
    }
    *othersEndPtr = NULL;
    *firstEndPtr = othersPtr;
    return firstPtr;
}

/*
 * IocpAddrResolve --
 *	All addresses of a host (NULL: this host's, to connect to or to bind). Blocks on DNS.
 *	Honours ::tcl::unsupported::socketAF (inet, inet6), as the core does.
 * Results:
 *	TCL_OK and a list for freeaddrinfo; or TCL_ERROR with a message in interp.
 */
int
IocpAddrResolve(Tcl_Interp *interp, const char *host, int port, int willBind,
	struct addrinfo **listPtrPtr)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = willBind ? AI_PASSIVE : 0};
    const char *family = interp == NULL ? NULL
	    : Tcl_GetVar2(interp, "::tcl::unsupported::socketAF", NULL, 0);
    char service[16];
    Tcl_DString native;
    int result;

    if (family != NULL && strcmp(family, "inet") == 0) {
	hints.ai_family = AF_INET;
    } else if (family != NULL && strcmp(family, "inet6") == 0) {
	hints.ai_family = AF_INET6;
    }
    snprintf(service, sizeof(service), "%d", port);
    if (host != NULL) {
	host = Tcl_UtfToExternalDString(NULL, host, -1, &native);
    }

    result = getaddrinfo(host, service, &hints, listPtrPtr);
    if (host != NULL) {
	Tcl_DStringFree(&native);
    }
    if (result == EAI_SYSTEM) {
	IocpOpenError(interp, errno);
	return TCL_ERROR;
    }
    if (result != 0) {
	if (interp != NULL) {
	    Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't open socket: %s",
		    gai_strerror(result)));
	}
	return TCL_ERROR;
    }
    if (willBind) {
	*listPtrPtr = BindOrder(*listPtrPtr);
    }
    return TCL_OK;
}

/*
 * IocpAddrAppend --
 *	The three elements of -peername and -sockname: number, name, port. The name comes from a
 *	reverse lookup, which may block, unless ::tcl::unsupported::noReverseDNS exists.
 */
void
IocpAddrAppend(Tcl_Interp *interp, Tcl_DString *dsPtr, const IocpSockaddr *addrPtr,
	socklen_t length)
{
    char host[NI_MAXHOST], name[NI_MAXHOST], port[NI_MAXSERV];
    const struct in6_addr *in6Ptr = &addrPtr->sa6.sin6_addr;
    int nameless;

    getnameinfo(&addrPtr->sa, length, host, sizeof(host), port, sizeof(port),
	    NI_NUMERICHOST | NI_NUMERICSERV);

    /*
     * The unspecified addresses have no name, and asking for one can take long.
     */

    if (addrPtr->sa.sa_family == AF_INET) {
	nameless = addrPtr->sa4.sin_addr.s_addr == INADDR_ANY;
    } else {
	nameless = IN6_IS_ADDR_UNSPECIFIED(in6Ptr)
		|| (IN6_IS_ADDR_V4MAPPED(in6Ptr) && in6Ptr->s6_addr32[3] == 0);
    }
    if (nameless || (interp != NULL && Tcl_GetVar2(interp, "::tcl::unsupported::noReverseDNS", NULL,
	    0) != NULL) || getnameinfo(&addrPtr->sa, length, name, sizeof(name), NULL, 0, 0) != 0) {
	strcpy(name, host);
    }
    Tcl_DStringAppendElement(dsPtr, host);
    Tcl_DStringAppendElement(dsPtr, name);
    Tcl_DStringAppendElement(dsPtr, port);
}

/*
 * IocpSocketRaise --
 *	Keep the numbers between LOW_FDS and HIGH_FDS free for files. Where the process may not have
 *	descriptors that high, the socket stays where it is.
 */
IocpSocket
IocpSocketRaise(IocpSocket fd)
{
    if (fd >= LOW_FDS && fd < HIGH_FDS) {
	int raised = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FDS);

	if (raised >= 0) {
	    close(fd);
	    return raised;
	}
    }
    return fd;
}

/*
 * IocpSocketNew --
 *	A stream socket, close-on-exec.
 *
 *	Nagle's algorithm is off (-nagle 0), and accepted sockets inherit that from their listener:
 *	Tcl's buffers gather small writes, and a response whose header and body leave one after the
 *	other would wait some 40 ms for the peer's delayed acknowledgement.
 * Results:
 *	IOCP_NO_SOCKET and errno on failure.
 */
IocpSocket
IocpSocketNew(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0) {
	return IOCP_NO_SOCKET;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return IocpSocketRaise(fd);
}

/*
 * IocpSocketCheck --
 *	Whether a descriptor that comes from elsewhere is a connected TCP socket.
 * Results:
 *	0, or the errno that says why it is not.
 */
int
IocpSocketCheck(IocpSocket fd)
{
    IocpSockaddr addr;
    socklen_t length = sizeof(addr);
    int type = 0;
    socklen_t typeLength = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &typeLength) < 0) {
	return errno;
    }
    if (type != SOCK_STREAM) {
	return EPROTOTYPE;
    }
    if (getsockname(fd, &addr.sa, &length) < 0) {
	return errno;
    }
    if (addr.sa.sa_family != AF_INET && addr.sa.sa_family != AF_INET6) {
	return EAFNOSUPPORT;
    }
    length = sizeof(addr);
    return getpeername(fd, &addr.sa, &length) < 0 ? errno : 0;
}

/*
 * IocpSocketAdopt --
 *	Make such a socket what the engines expect: blocking, close-on-exec.
 */
void
IocpSocketAdopt(IocpSocket fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}
