/*
 * iocpSocket.c --
 *	New sockets, and what the kernel keeps for each: one table of settings, which a channel
 *	remembers (IocpSettings), so that the next socket of a client that tries several addresses
 *	has them too. Accepted sockets inherit them from the listening one.
 */

#include "iocpInt.h"

/*
 * With Tcl's own notifier of 8.6, a file event on a descriptor above 1,023 aborts the process. So
 * that thousands of connections leave room for files and pipes, sockets take the numbers below
 * LOW_FDS and those from HIGH_FDS on.
 */
#define LOW_FDS 512
#define HIGH_FDS 1024

/* The kernel's spelling of a sending rate without a limit, which is 0 here. */
#define UNLIMITED UINT64_MAX

/*
 * Where the kernel has a setting.
 */
static void
Where(IocpSocket fd, IocpSockopt which, int *levelPtr, int *optionPtr)
{
    static const struct {
	int level, option;
    } places[IOCP_SO_COUNT] = {
	[IOCP_SO_REUSEADDR] = {SOL_SOCKET, SO_REUSEADDR},
	[IOCP_SO_REUSEPORT] = {SOL_SOCKET, SO_REUSEPORT},
	[IOCP_SO_KEEPALIVE] = {SOL_SOCKET, SO_KEEPALIVE},
	[IOCP_SO_NODELAY] = {IPPROTO_TCP, TCP_NODELAY},
	[IOCP_SO_SNDBUF] = {SOL_SOCKET, SO_SNDBUF},
	[IOCP_SO_RCVBUF] = {SOL_SOCKET, SO_RCVBUF},
	[IOCP_SO_TCLASS] = {IPPROTO_IP, IP_TOS},
	[IOCP_SO_PRIORITY] = {SOL_SOCKET, SO_PRIORITY},
	[IOCP_SO_PACING] = {SOL_SOCKET, SO_MAX_PACING_RATE}
    };

    *levelPtr = places[which].level;
    *optionPtr = places[which].option;
    if (which == IOCP_SO_TCLASS && IocpSocketFamily(fd) == AF_INET6) {
	*levelPtr = IPPROTO_IPV6;
	*optionPtr = IPV6_TCLASS;
    }
}

/*
 * IocpSocketSet --
 *	Results: 0; or -1 and errno.
 */
int
IocpSocketSet(IocpSocket fd, IocpSockopt which, int64_t value)
{
    int level, option, number = (int)value;
    uint64_t rate = value == 0 ? UNLIMITED : (uint64_t)value;

    Where(fd, which, &level, &option);
    if (which == IOCP_SO_PACING) {
	return IocpSocketSetopt(fd, level, option, &rate, sizeof(rate));
    }
    return IocpSocketSetopt(fd, level, option, &number, sizeof(number));
}

/*
 * IocpSocketGet --
 *	What the kernel has now, which may differ from what it was told.
 * Results:
 *	0 and *valuePtr; or -1 and errno.
 */
int
IocpSocketGet(IocpSocket fd, IocpSockopt which, int64_t *valuePtr)
{
    int level, option, number = 0;
    uint64_t rate = 0;
    socklen_t length = which == IOCP_SO_PACING ? sizeof(rate) : sizeof(number);

    Where(fd, which, &level, &option);
    if (IocpSocketGetopt(fd, level, option,
	    which == IOCP_SO_PACING ? (void *)&rate : (void *)&number, &length) < 0) {
	return -1;
    }
    *valuePtr = which != IOCP_SO_PACING ? number : rate == UNLIMITED ? 0 : (int64_t)rate;
    return 0;
}

/*
 * IocpSocketApply --
 *	Give a socket what the channel remembers. Without TCP_NODELAY, which not every protocol has,
 *	it is slower but no different.
 * Results:
 *	0; or -1 and errno.
 */
int
IocpSocketApply(IocpSocket fd, const IocpSettings *settingsPtr)
{
    for (IocpSockopt which = 0; which < IOCP_SO_COUNT; which++) {
	if (settingsPtr->sockopts[which] >= 0
		&& IocpSocketSet(fd, which, settingsPtr->sockopts[which]) < 0
		&& which != IOCP_SO_NODELAY) {
	    return -1;
	}
    }
    return 0;
}

/*
 * IocpSocketInherit --
 *	An accepted socket has the settings of its listener from the kernel, all but the priority,
 *	or hardly any.
 */
void
IocpSocketInherit(IocpSocket fd, const IocpSettings *settingsPtr)
{
    if (!IOCP_ACCEPT_INHERITS) {
	IocpSocketApply(fd, settingsPtr);
    } else if (settingsPtr->sockopts[IOCP_SO_PRIORITY] >= 0) {
	IocpSocketSet(fd, IOCP_SO_PRIORITY, settingsPtr->sockopts[IOCP_SO_PRIORITY]);
    }
}

/*
 * IocpSocketRaise --
 *	Keep the numbers between LOW_FDS and HIGH_FDS free for files. Where the process may not have
 *	descriptors that high, the socket stays where it is.
 */
IocpSocket
IocpSocketRaise(IocpSocket fd)
{
    if (fd >= LOW_FDS && fd < HIGH_FDS && IocpNotifierSelects()) {
	IocpSocket raised = IocpSocketDup(fd, HIGH_FDS);

	if (raised != IOCP_NO_SOCKET) {
	    IocpSocketClose(fd);
	    return raised;
	}
    }
    return fd;
}

/*
 * IocpSocketNew --
 *	A stream socket with these settings, close-on-exec.
 * Results:
 *	IOCP_NO_SOCKET and errno on failure.
 */
IocpSocket
IocpSocketNew(int family, const IocpSettings *settingsPtr)
{
    IocpSocket fd = IocpSocketOpen(family,
	    settingsPtr->protocol == IOCP_MPTCP ? IPPROTO_MPTCP : 0);

    if (fd == IOCP_NO_SOCKET) {
	return IOCP_NO_SOCKET;
    }
    if (IocpSocketApply(fd, settingsPtr) < 0) {
	int error = errno;

	IocpSocketClose(fd);
	errno = error;
	return IOCP_NO_SOCKET;
    }
    return IocpSocketRaise(fd);
}

/*
 * IocpSocketProtocol --
 *	What the kernel speaks on a socket: IOCP_TCP or IOCP_MPTCP. (Of a connection that was
 *	accepted by MPTCP from a peer without it, the former.)
 */
IocpProtocol
IocpSocketProtocol(IocpSocket fd)
{
    return IocpSocketProtocolNumber(fd) == IPPROTO_MPTCP ? IOCP_MPTCP : IOCP_TCP;
}

/*
 * IocpSocketCheck --
 *	Whether a descriptor that comes from elsewhere is a TCP socket, and connected; or, if that
 *	is asked for, listening.
 * Results:
 *	0, or the errno that says why it is not.
 */
int
IocpSocketCheck(IocpSocket fd, int listening)
{
    IocpSockaddr addr;
    socklen_t length = sizeof(addr);
    int type = 0, listens = 0;
    socklen_t typeLength = sizeof(type), listensLength = sizeof(listens);

    if (IocpSocketGetopt(fd, SOL_SOCKET, SO_TYPE, &type, &typeLength) < 0) {
	return errno;
    }
    if (type != SOCK_STREAM) {
	return EPROTOTYPE;
    }
    if (IocpSocketName(fd, &addr.sa, &length) < 0) {
	return errno;
    }
    if (addr.sa.sa_family != AF_INET && addr.sa.sa_family != AF_INET6) {
	return EAFNOSUPPORT;
    }
    if (listening) {
	if (IocpSocketGetopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listensLength) < 0) {
	    return errno;
	}
	return listens ? 0 : EINVAL;
    }
    length = sizeof(addr);
    return IocpSocketPeer(fd, &addr.sa, &length) < 0 ? errno : 0;
}

/*
 * IocpSocketCopy --
 *	Another descriptor of the socket, close-on-exec.
 * Results:
 *	IOCP_NO_SOCKET and errno on failure.
 */
IocpSocket
IocpSocketCopy(IocpSocket fd)
{
    IocpSocket copy = IocpSocketDup(fd, 0);

    return copy == IOCP_NO_SOCKET ? copy : IocpSocketRaise(copy);
}

/*
 * IocpSocketAdopt --
 *	Make such a socket what the engines expect: blocking, close-on-exec.
 */
void
IocpSocketAdopt(IocpSocket fd)
{
    IocpSocketCloseOnExec(fd);
    IocpSocketSetBlocking(fd, 1);
}
