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
 * IocpQueryInit --
 *	Ask for all addresses of a host (NULL: this host's, to connect to or to bind) for a
 *	protocol. One of either family honours ::tcl::unsupported::socketAF (inet, inet6), as the
 *	core does.
 */
void
IocpQueryInit(IocpQuery *queryPtr, Tcl_Interp *interp, const char *host, int port, int willBind,
	IocpProtocol protocol)
{
    const char *family = interp == NULL ? NULL
	    : Tcl_GetVar2(interp, "::tcl::unsupported::socketAF", NULL, 0);

    *queryPtr = (IocpQuery){.flags = willBind ? AI_PASSIVE : 0};
    if (protocol == IOCP_TCP4 || protocol == IOCP_TCP6) {
	queryPtr->family = protocol == IOCP_TCP4 ? AF_INET : AF_INET6;
    } else if (family != NULL && strcmp(family, "inet") == 0) {
	queryPtr->family = AF_INET;
    } else if (family != NULL && strcmp(family, "inet6") == 0) {
	queryPtr->family = AF_INET6;
    }
    snprintf(queryPtr->service, sizeof(queryPtr->service), "%d", port);
    if (host != NULL) {
	Tcl_DString native;

	host = Tcl_UtfToExternalDString(NULL, host, -1, &native);
	queryPtr->host = IOCP_OUT_OF_MEMORY() ? NULL : strdup(host);
	Tcl_DStringFree(&native);
	if (queryPtr->host == NULL) {
	    queryPtr->result = EAI_SYSTEM;
	    queryPtr->error = ENOMEM;
	    queryPtr->answered = 1;
	}
    }
}

/*
 * Ask --
 *	Give the query to the system's resolver, with further flags. Any thread may do this.
 */
static int
Ask(IocpQuery *queryPtr, int flags)
{
    struct addrinfo hints = {
	.ai_socktype = SOCK_STREAM, .ai_family = queryPtr->family,
	.ai_flags = queryPtr->flags | flags
    };
    int result = getaddrinfo(queryPtr->host, queryPtr->service, &hints, &queryPtr->listPtr);

    queryPtr->error = errno;
    if (result != 0) {
	queryPtr->listPtr = NULL;
    } else if (queryPtr->flags & AI_PASSIVE) {
	queryPtr->listPtr = BindOrder(queryPtr->listPtr);
    }
    return result;
}

/*
 * IocpQueryTry --
 *	Answer the query if that takes no time: no name has to be looked up.
 * Results:
 *	Whether it is answered now.
 */
int
IocpQueryTry(IocpQuery *queryPtr)
{
    if (!queryPtr->answered && !queryPtr->wantName) {
	queryPtr->result = Ask(queryPtr, AI_NUMERICHOST);
	queryPtr->answered = queryPtr->host == NULL || queryPtr->result != EAI_NONAME;
	if (!queryPtr->answered) {
	    queryPtr->result = 0;
	}
    }
    return queryPtr->answered;
}

/*
 * IocpQueryRun --
 *	Answer the query, however long that takes. Any thread may do this.
 */
void
IocpQueryRun(IocpQuery *queryPtr)
{
    char name[NI_MAXHOST];

    if (queryPtr->answered) {
	return;
    }
    queryPtr->answered = 1;
    if (!queryPtr->wantName) {
	queryPtr->result = Ask(queryPtr, 0);
	return;
    }

    /*
     * The name of what is an address already, the addresses of what is not.
     */

    if (Ask(queryPtr, AI_NUMERICHOST) != 0) {
	queryPtr->result = Ask(queryPtr, 0);
	return;
    }
    queryPtr->result = getnameinfo(queryPtr->listPtr->ai_addr,
	    (socklen_t)queryPtr->listPtr->ai_addrlen, name, sizeof(name), NULL, 0, NI_NAMEREQD);
    queryPtr->error = errno;
    if (queryPtr->result == 0) {
	queryPtr->name = strdup(name);
	if (queryPtr->name == NULL) {
	    queryPtr->result = EAI_SYSTEM;
	    queryPtr->error = ENOMEM;
	}
    }
}

void
IocpQueryFree(IocpQuery *queryPtr)
{
    if (queryPtr->listPtr != NULL) {
	freeaddrinfo(queryPtr->listPtr);
    }
    free(queryPtr->host);
    free(queryPtr->name);
    *queryPtr = (IocpQuery){.answered = 1};
}

/*
 * IocpQueryOpenError --
 *	The query has failed: "couldn't open socket: ..." in interp, which may be NULL. As in the
 *	core, errorCode is NONE, unless the system is to blame.
 */
void
IocpQueryOpenError(Tcl_Interp *interp, const IocpQuery *queryPtr)
{
    if (queryPtr->result == EAI_SYSTEM) {
	IocpOpenError(interp, queryPtr->error);
    } else if (interp != NULL) {
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't open socket: %s",
		gai_strerror(queryPtr->result)));
    }
}

/*
 * IocpQueryErrorCode --
 *	The errorCode of a name that could not be looked up.
 */
void
IocpQueryErrorCode(Tcl_DString *dsPtr, int result)
{
    static const struct {
	int result;
	const char *name;
    } names[] = {
	{EAI_AGAIN, "EAI_AGAIN"}, {EAI_BADFLAGS, "EAI_BADFLAGS"}, {EAI_FAIL, "EAI_FAIL"},
	{EAI_FAMILY, "EAI_FAMILY"}, {EAI_MEMORY, "EAI_MEMORY"}, {EAI_NONAME, "EAI_NONAME"},
	{EAI_SERVICE, "EAI_SERVICE"}, {EAI_SOCKTYPE, "EAI_SOCKTYPE"},
    };
    const char *name = "EAI_OTHER";

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
	if (names[i].result == result) {
	    name = names[i].name;
	}
    }
    Tcl_DStringAppendElement(dsPtr, "IOCP");
    Tcl_DStringAppendElement(dsPtr, "LOOKUP");
    Tcl_DStringAppendElement(dsPtr, name);
    Tcl_DStringAppendElement(dsPtr, gai_strerror(result));
}

socklen_t
IocpAddrLength(const IocpSockaddr *addrPtr)
{
    return addrPtr->sa.sa_family == AF_INET ? sizeof(addrPtr->sa4) : sizeof(addrPtr->sa6);
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
	nameless = IN6_IS_ADDR_UNSPECIFIED(in6Ptr) || (IN6_IS_ADDR_V4MAPPED(in6Ptr)
		&& memcmp(in6Ptr->s6_addr + 12, &in6addr_any, 4) == 0);
    }
    if (nameless || (interp != NULL && Tcl_GetVar2(interp, "::tcl::unsupported::noReverseDNS", NULL,
	    0) != NULL) || getnameinfo(&addrPtr->sa, length, name, sizeof(name), NULL, 0, 0) != 0) {
	strcpy(name, host);
    }
    Tcl_DStringAppendElement(dsPtr, host);
    Tcl_DStringAppendElement(dsPtr, name);
    Tcl_DStringAppendElement(dsPtr, port);
}
