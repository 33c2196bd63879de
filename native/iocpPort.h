/*
 * iocpPort.h --
 *	What differs between operating systems. Together with port/ and engine/, this is the only
 *	file that may test for one; everything above uses the names made there. Before any other
 *	header.
 */

#ifndef IOCP_PORT_H
#define IOCP_PORT_H

#define IOCP_MS 1000000		/* In nanoseconds. */
#define IOCP_SECOND 1000000000

#ifdef _WIN32
#   include "port/windows.h"
#else
#   include "port/posix.h"
#endif

#define IOCP_NO_SOCKET (-1)
#define IOCP_NO_FILE (-1)

typedef union IocpSockaddr {
    struct sockaddr sa;
    struct sockaddr_in sa4;
    struct sockaddr_in6 sa6;
    struct sockaddr_storage ss;
} IocpSockaddr;

#endif /* IOCP_PORT_H */
