/*
 * iocpInherit.c --
 *	Listening sockets that another process has opened: a supervisor that shares one among
 *	several servers, or that has the next server take over from the last. iocp::inherit makes
 *	one known; whoever then opens a server at its address gets it.
 *
 *	The table belongs to the process: all its threads find the sockets there, and so does a
 *	forked child, which has copies of the descriptors. None is ever forgotten: what is listening
 *	is the supervisor's to say.
 */

#include "iocpInt.h"

static IocpMutex inheritMutex = IOCP_MUTEX_INIT;
static IocpSocket inherited[IOCP_INHERITED_MAX];	/* Copies of our own, close-on-exec. */
static int inheritedCount = 0;

/*
 * IocpInheritForked --
 *	In a forked child: another thread of the parent may have been at the table. What it was
 *	adding is not in the count yet.
 */
void
IocpInheritForked(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    inheritMutex = unlocked;
}

/*
 * Add --
 *	Keep a copy of a listening socket, once for each socket.
 * Results:
 *	0 or an errno.
 */
static int
Add(IocpSocket fd)
{
    int error = 0;

    IocpMutexLock(&inheritMutex);
    for (int i = 0; i < inheritedCount; i++) {
	if (IocpIsSameFile(inherited[i], fd)) {
	    IocpMutexUnlock(&inheritMutex);
	    return 0;
	}
    }
    if (inheritedCount == IOCP_INHERITED_MAX) {
	error = ENOBUFS;
    } else {
	inherited[inheritedCount] = IocpSocketCopy(fd);
	if (inherited[inheritedCount] == IOCP_NO_SOCKET) {
	    error = errno;
	} else {
	    inheritedCount++;
	}
    }
    IocpMutexUnlock(&inheritMutex);
    return error;
}

/*
 * Serves --
 *	Whether a listening socket is at an address: that one, or all of IPv6 and IPv4 where all of
 *	IPv4 is asked for. At no port in particular, it is not.
 */
static int
Serves(IocpSocket fd, const struct sockaddr *wantedPtr)
{
    const struct sockaddr_in *wanted4Ptr = (const struct sockaddr_in *)(const void *)wantedPtr;
    const struct sockaddr_in6 *wanted6Ptr = (const struct sockaddr_in6 *)(const void *)wantedPtr;
    IocpSockaddr name;
    socklen_t length = sizeof(name);
    int only6 = 0;
    socklen_t only6Length = sizeof(only6);

    if (IocpSocketName(fd, &name.sa, &length) < 0
	    || name.sa4.sin_port != wanted4Ptr->sin_port) {
	return 0;
    }
    if (name.sa.sa_family == AF_INET) {
	return wantedPtr->sa_family == AF_INET
		&& name.sa4.sin_addr.s_addr == wanted4Ptr->sin_addr.s_addr;
    }
    if (wantedPtr->sa_family == AF_INET) {
	return wanted4Ptr->sin_addr.s_addr == INADDR_ANY
		&& IN6_IS_ADDR_UNSPECIFIED(&name.sa6.sin6_addr)
		&& IocpSocketGetopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &only6Length) == 0
		&& !only6;
    }
    return name.sa6.sin6_scope_id == wanted6Ptr->sin6_scope_id
	    && memcmp(&name.sa6.sin6_addr, &wanted6Ptr->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/*
 * IocpInheritTake --
 *	Copies, which become the caller's, of the inherited sockets at any of the addresses. fds has
 *	room for IOCP_INHERITED_MAX. They do not block, for all processes that have them: whoever
 *	comes late finds nothing, and must not wait.
 * Results:
 *	How many; or -1 and errno.
 */
int
IocpInheritTake(const struct addrinfo *listPtr, IocpSocket *fds)
{
    int count = 0, error = 0;

    IocpMutexLock(&inheritMutex);
    for (int i = 0; i < inheritedCount && error == 0; i++) {
	const struct addrinfo *addrPtr = listPtr;

	while (addrPtr != NULL && !Serves(inherited[i], addrPtr->ai_addr)) {
	    addrPtr = addrPtr->ai_next;
	}
	if (addrPtr != NULL) {
	    fds[count] = IocpSocketCopy(inherited[i]);
	    if (fds[count] == IOCP_NO_SOCKET) {
		error = errno;
	    } else {
		count++;
	    }
	}
    }
    IocpMutexUnlock(&inheritMutex);
    for (int i = 0; i < count; i++) {
	if (error != 0) {
	    IocpSocketClose(fds[i]);
	} else {
	    IocpSocketSetBlocking(fds[i], 0);
	}
    }
    errno = error;
    return error != 0 ? -1 : count;
}

/*
 * IocpInheritObjCmd --
 *	iocp::inherit descriptor: servers at the address of that listening socket are to use it. The
 *	descriptor stays the caller's. Returns the address as -sockname has it.
 */
int
IocpInheritObjCmd(void *unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[])
{
    IocpSockaddr name;
    socklen_t length = sizeof(name);
    Tcl_DString result;
    int fd, error;

    (void)unused;
    if (objc != 2) {
	Tcl_WrongNumArgs(interp, 1, objv, "descriptor");
	return TCL_ERROR;
    }
    if (Tcl_GetIntFromObj(interp, objv[1], &fd) != TCL_OK) {
	return TCL_ERROR;
    }
    error = IocpSocketCheck(fd, 1);
    if (error == 0) {
	error = Add(fd);
    }
    if (error == 0 && IocpSocketName(fd, &name.sa, &length) < 0) {
	error = errno;
    }
    if (error != 0) {
	Tcl_SetErrno(error);
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't inherit descriptor %d: %s", fd,
		Tcl_PosixError(interp)));
	return TCL_ERROR;
    }
    Tcl_DStringInit(&result);
    IocpAddrAppend(interp, &result, &name, length);
    Tcl_DStringResult(interp, &result);
    return TCL_OK;
}
