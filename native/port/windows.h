/*
 * windows.h --
 *	The names of iocpPort.h on Windows 10 and later.
 *
 *	A socket is an int here: handles of the kernel have 32 bits that count, and sign extension
 *	makes INVALID_SOCKET of IOCP_NO_SOCKET. Errors are those of errno.h, as everywhere above:
 *	the procedures below translate what Winsock says.
 */

#ifndef IOCP_WINDOWS_H
#define IOCP_WINDOWS_H

#define WIN32_LEAN_AND_MEAN
#define _WIN32_WINNT 0x0A00
#define NTDDI_VERSION 0x0A000006
#define __USE_MINGW_ANSI_STDIO 1
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <mswsock.h>
#include <windows.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int IocpSocket;
typedef int IocpFile;		/* A handle, too. */
typedef WSABUF IocpVec;
typedef ADDRESS_FAMILY sa_family_t;
typedef USHORT in_port_t;

/* What Windows has not. No socket ever gives these errors, nor getaddrinfo. */
#define EHOSTDOWN WSAEHOSTDOWN
#define ENONET (-WSAEHOSTDOWN)
#define EAI_SYSTEM (-1)

/*
 * Options: IocpSocketSetopt and IocpSocketGetopt refuse those that are not there. Those of the
 * traffic class are, and are ignored by the system unless its administrator has chosen otherwise.
 */
#define IOCP_NO_OPTION (-1)
#undef IP_TOS
#define IP_TOS IOCP_NO_OPTION
#undef IPV6_TCLASS
#define IPV6_TCLASS IOCP_NO_OPTION
#define SO_MAX_PACING_RATE IOCP_NO_OPTION
#define SO_PRIORITY IOCP_NO_OPTION
#define SO_REUSEPORT (-2)	/* It can only be off. */
#define IPPROTO_MPTCP 262

#define SHUT_RD SD_RECEIVE
#define SHUT_WR SD_SEND

typedef SRWLOCK IocpMutex;
#define IOCP_MUTEX_INIT SRWLOCK_INIT
#define IocpMutexLock(mutexPtr) AcquireSRWLockExclusive(mutexPtr)
#define IocpMutexUnlock(mutexPtr) ReleaseSRWLockExclusive(mutexPtr)

typedef CONDITION_VARIABLE IocpCondition;
#define IocpConditionInit(conditionPtr) InitializeConditionVariable(conditionPtr)
#define IocpConditionSignal(conditionPtr) WakeConditionVariable(conditionPtr)
#define IocpConditionWait(conditionPtr, mutexPtr) \
    SleepConditionVariableSRW(conditionPtr, mutexPtr, INFINITE, 0)

#define IOCP_THREAD_LOCAL _Thread_local

/* What the kernel gives a connection of its listener's settings is not to be relied on. */
#define IOCP_ACCEPT_INHERITS 0
#define IOCP_NODELAY_SENDS 0

/* There is no fork. */
#define IocpAtFork(childProc) ((void)(childProc))

/* Tcl's notifier watches no descriptors. */
#define IOCP_NOTIFY_FD_END INT32_MAX

/* Tools show by which procedure a thread has begun. */
#define IocpNameThread(name) ((void)(name))

/* windows.c */
int IocpErrno(DWORD error);
int IocpSpawn(void *(*proc)(void *arg), void *arg);
const char *IocpModulePath(const void *address);
uint64_t IocpNow(void);
int IocpWinsock(void);
IocpSocket IocpSocketOpen(int family, int protocol);
IocpSocket IocpSocketDup(IocpSocket fd, int from);
int IocpSocketBind(IocpSocket fd, const struct sockaddr *addrPtr, socklen_t length);
int IocpSocketClose(IocpSocket fd);
int IocpSocketGetopt(IocpSocket fd, int level, int option, void *value, socklen_t *lengthPtr);
int IocpSocketListen(IocpSocket fd, int backlog);
int IocpSocketName(IocpSocket fd, struct sockaddr *addrPtr, socklen_t *lengthPtr);
int IocpSocketPeer(IocpSocket fd, struct sockaddr *addrPtr, socklen_t *lengthPtr);
int IocpSocketSetopt(IocpSocket fd, int level, int option, const void *value, socklen_t length);
int IocpSocketShutdown(IocpSocket fd, int how);
int IocpSocketFamily(IocpSocket fd);
int IocpSocketPoll(IocpSocket fd, short events, int timeoutMs);
int IocpSocketSendNow(IocpSocket fd, const char *data, size_t size);
int IocpSocketUnsent(IocpSocket fd);
int IocpIsSameFile(int one, int other);
IocpFile IocpFileDup(IocpFile file);
int64_t IocpFileSize(IocpFile file);
const char *IocpGetenv(const char *name, char *buf, size_t size);

#define IocpFileClose(file) CloseHandle((HANDLE)(intptr_t)(file))

/* Milliseconds to wait for so many nanoseconds, or for ever: not a moment less. */
static inline DWORD
IocpMilliseconds(int64_t ns)
{
    return ns < 0 ? INFINITE : ns / IOCP_MS >= INT32_MAX ? INT32_MAX
	    : (DWORD)((ns + IOCP_MS - 1) / IOCP_MS);
}

static inline void
IocpSleep(int64_t ns)
{
    Sleep(IocpMilliseconds(ns));
}

/* The only protocol that there is. */
static inline int
IocpSocketProtocolNumber(IocpSocket fd)
{
    (void)fd;
    return IPPROTO_TCP;
}

static inline void
IocpSocketCloseOnExec(IocpSocket fd)
{
    SetHandleInformation((HANDLE)(intptr_t)fd, HANDLE_FLAG_INHERIT, 0);
}

/* No call of ours depends on it: the engine makes each socket what it needs. */
static inline void
IocpSocketSetBlocking(IocpSocket fd, int blocking)
{
    (void)fd;
    (void)blocking;
}

static inline void
IocpVecSet(IocpVec *vecPtr, char *data, size_t size)
{
    vecPtr->buf = data;
    vecPtr->len = (ULONG)size;
}

/* No system call is interrupted by a signal: whoever waits has to look up now and then. */
#define IOCP_WAIT_MAX (100 * IOCP_MS)

static inline int
IocpHandlersInterrupt(void)
{
    return 0;
}

#endif /* IOCP_WINDOWS_H */
