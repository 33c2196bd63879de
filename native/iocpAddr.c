/*
 * iocpAddr.c --
 *	Names, ports and addresses, as the core's socket command treats them.
 */

#include "iocpInt.h"

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
 *	All addresses of a host (NULL: this host's, to connect to or to bind) for a protocol.
 *	Blocks on DNS. A protocol of either family honours ::tcl::unsupported::socketAF (inet,
 *	inet6), as the core does.
 * Results:
 *	TCL_OK and a list for freeaddrinfo; or TCL_ERROR with a message in interp.
 */
int
IocpAddrResolve(Tcl_Interp *interp, const char *host, int port, int willBind,
	IocpProtocol protocol, struct addrinfo **listPtrPtr)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = willBind ? AI_PASSIVE : 0};
    const char *family = interp == NULL ? NULL
	    : Tcl_GetVar2(interp, "::tcl::unsupported::socketAF", NULL, 0);
    char service[16];
    Tcl_DString native;
    int result;

    if (protocol == IOCP_TCP4 || protocol == IOCP_TCP6) {
	hints.ai_family = protocol == IOCP_TCP4 ? AF_INET : AF_INET6;
    } else if (family != NULL && strcmp(family, "inet") == 0) {
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
