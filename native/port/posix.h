/*
 * posix.h --
 *	The names of iocpPort.h on Linux.
 */

#ifndef IOCP_POSIX_H
#define IOCP_POSIX_H

#ifndef _GNU_SOURCE
#   define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef int IocpSocket;
typedef int IocpFile;
typedef struct iovec IocpVec;

/* Usable before any Tcl interpreter exists, which Tcl_Mutex is not. */
typedef pthread_mutex_t IocpMutex;
#define IOCP_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define IocpMutexLock(mutexPtr) pthread_mutex_lock(mutexPtr)
#define IocpMutexUnlock(mutexPtr) pthread_mutex_unlock(mutexPtr)

/* What threads wait for, for ever or until a point of IocpNow's time. */
typedef pthread_cond_t IocpCondition;
#define IocpConditionSignal(conditionPtr) pthread_cond_signal(conditionPtr)
#define IocpConditionWait(conditionPtr, mutexPtr) pthread_cond_wait(conditionPtr, mutexPtr)

static inline void
IocpConditionInit(IocpCondition *conditionPtr)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(conditionPtr, &attr);
    pthread_condattr_destroy(&attr);
}

#define IOCP_THREAD_LOCAL _Thread_local

/* A value whose destructor runs when its thread ends, even one that is not Tcl's. */
typedef pthread_key_t IocpThreadKey;
#define IocpThreadKeyNew(keyPtr, freeProc) pthread_key_create(keyPtr, freeProc)
#define IocpThreadKeySet(key, value) pthread_setspecific(key, value)

#define IocpAtFork(childProc) pthread_atfork(NULL, NULL, childProc)

/* Tcl 8.6's notifier selects: it aborts the process for a descriptor from this one on. */
#define IOCP_NOTIFY_FD_END FD_SETSIZE

/*
 * Start a thread that nobody joins and that no signal goes to: a host's handlers are to interrupt
 * the thread that waits. Returns 0 or an errno.
 */
static inline int
IocpSpawn(void *(*proc)(void *arg), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int error = pthread_attr_init(&attr);

    if (error == 0) {
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attr, proc, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
    }
    return error;
}

/*
 * The file of the library that holds the address; NULL if the system does not say.
 */
static inline const char *
IocpModulePath(const void *address)
{
    Dl_info info;

    return dladdr(address, &info) != 0 ? info.dli_fname : NULL;
}

/* What tools show of the calling thread; at most 15 characters. */
#define IocpNameThread(name) pthread_setname_np(pthread_self(), name)

/* Monotonic time in nanoseconds. */
static inline uint64_t
IocpNow(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * IOCP_SECOND + (uint64_t)now.tv_nsec;
}

/* Whether the time was up. */
static inline int
IocpConditionWaitUntil(IocpCondition *conditionPtr, IocpMutex *mutexPtr, uint64_t end)
{
    struct timespec time = {
	.tv_sec = (time_t)(end / IOCP_SECOND), .tv_nsec = (long)(end % IOCP_SECOND)
    };

    return pthread_cond_timedwait(conditionPtr, mutexPtr, &time) == ETIMEDOUT;
}

/* Bytes that the kernel has to send, or has sent and the peer has not acknowledged. */
static inline int
IocpSocketUnsent(IocpSocket fd)
{
    int count = 0;

    return ioctl(fd, SIOCOUTQ, &count) == 0 ? count : 0;
}

/*
 * What POSIX says of sockets: 0 and more, or -1 and errno.
 */

#define IocpSocketBind bind
#define IocpSocketClose close
#define IocpSocketGetopt getsockopt
#define IocpSocketListen listen
#define IocpSocketName getsockname
#define IocpSocketPeer getpeername
#define IocpSocketSetopt setsockopt
#define IocpSocketShutdown shutdown

#define IOCP_ACCEPT_INHERITS 1	/* A connection has its listener's settings. */
#define IOCP_NODELAY_SENDS 1	/* To set TCP_NODELAY sends what Nagle's algorithm holds back. */

/* A stream socket, close-on-exec; protocol 0: the family's first. IOCP_NO_SOCKET and errno. */
static inline IocpSocket
IocpSocketOpen(int family, int protocol)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
}

/* Another descriptor of the socket, not below from, close-on-exec. IOCP_NO_SOCKET and errno. */
static inline IocpSocket
IocpSocketDup(IocpSocket fd, int from)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, from);
}

static inline void
IocpSocketCloseOnExec(IocpSocket fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* For all that have the socket, in this process and in others. */
static inline void
IocpSocketSetBlocking(IocpSocket fd, int blocking)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0) {
	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    }
}

/* What the kernel says a socket is; value where it does not. */
static inline int
IocpSocketIs(IocpSocket fd, int option, int value)
{
    socklen_t length = sizeof(value);

    getsockopt(fd, SOL_SOCKET, option, &value, &length);
    return value;
}

/* AF_INET or AF_INET6. */
#define IocpSocketFamily(fd) IocpSocketIs(fd, SO_DOMAIN, AF_INET)

/* IPPROTO_TCP or IPPROTO_MPTCP. */
#define IocpSocketProtocolNumber(fd) IocpSocketIs(fd, SO_PROTOCOL, IPPROTO_TCP)

/* Send what there is room for: a count or -errno. */
static inline int
IocpSocketSendNow(IocpSocket fd, const char *data, size_t size)
{
    ssize_t result = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    return result < 0 ? -errno : (int)result;
}

/* Wait until one of the events, as of poll(2), has happened, or for so long: those that have. */
static inline int
IocpSocketPoll(IocpSocket fd, short events, int timeoutMs)
{
    struct pollfd poller = {.fd = fd, .events = events};

    return poll(&poller, 1, timeoutMs) > 0 ? poller.revents : 0;
}

static inline void
IocpVecSet(IocpVec *vecPtr, char *data, size_t size)
{
    vecPtr->iov_base = data;
    vecPtr->iov_len = size;
}

/* Of the environment. NULL: there is none. It is copied to buf where it would not last. */
static inline const char *
IocpGetenv(const char *name, char *buf, size_t size)
{
    (void)buf;
    (void)size;
    return getenv(name);
}

/* Another descriptor of an open file; IOCP_NO_FILE and errno if there is none. */
static inline IocpFile
IocpFileDup(IocpFile file)
{
    IocpFile copy = fcntl(file, F_DUPFD_CLOEXEC, IOCP_NOTIFY_FD_END);

    return copy >= 0 ? copy : fcntl(file, F_DUPFD_CLOEXEC, 0);
}

#define IocpFileClose(file) close(file)

/* The bytes of a regular file; -1: it is none. */
static inline int64_t
IocpFileSize(IocpFile file)
{
    struct stat status;

    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) ? (int64_t)status.st_size : -1;
}

/* Whether two descriptors are of one file, or of one socket. */
static inline int
IocpIsSameFile(int one, int other)
{
    struct stat first, second;

    return fstat(one, &first) == 0 && fstat(other, &second) == 0
	    && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

static inline void
IocpSleep(int64_t ns)
{
    struct timespec time = {.tv_sec = ns / IOCP_SECOND, .tv_nsec = ns % IOCP_SECOND};

    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

#define IOCP_WAIT_MAX 0		/* Nanoseconds without a look for what is to be done; 0: any. */

/*
 * Whether a signal may have a handler after which a system call is not to go on by itself. Those of
 * faults, as sanitizers have, do not come in the midst of one.
 */
static inline int
IocpHandlersInterrupt(void)
{
    struct sigaction action;

    for (int number = 1; number < NSIG; number++) {
	if (number != SIGSEGV && number != SIGBUS && number != SIGFPE && number != SIGILL
		&& sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL
		&& action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART)) {
	    return 1;
	}
    }
    return 0;
}

#endif /* IOCP_POSIX_H */
