/*
 * pollset.h --
 *	Descriptors that are not the driver's: what Tcl_CreateFileHandler is given. Readiness is
 *	all that is wanted of them, so no ops are made of them; and a set of its own holds no
 *	reference to their files, as a request in a ring would: who closes a pipe means it.
 */

#ifndef IOCP_POLLSET_H
#define IOCP_POLLSET_H

#include <stdint.h>

/*
 * Belongs to one thread. Only IocpPollSetAlert may be called by others, and by signal handlers.
 */
typedef struct IocpPollSet IocpPollSet;

typedef struct IocpPolled {
    int fd;
    uint32_t serial;		/* As it was watched with. */
    int events;			/* POLLIN, POLLOUT, POLLPRI */
} IocpPolled;

IocpPollSet *IocpPollSetNew(void);
				/* NULL and errno on failure. */
void IocpPollSetFree(IocpPollSet *setPtr);
int IocpPollSetFd(const IocpPollSet *setPtr);
				/* Readable when there is something to fetch. */
int IocpPollSetAdd(IocpPollSet *setPtr, int fd, uint32_t serial, int events);
				/* Watch a descriptor, level-triggered. The serial tells it from an
				 * earlier one of the same number. 0 or -errno; -EPERM: always
				 * ready. */
int IocpPollSetChange(IocpPollSet *setPtr, int fd, uint32_t serial, int events);
				/* For other events than before; 0: no more. -ENOENT: its file is
				 * not watched. */
int IocpPollSetFetch(IocpPollSet *setPtr, IocpPolled *polled, int max, int64_t timeoutNs);
				/* What is ready; after an alert, or at the end of the time (-1:
				 * never), perhaps nothing. A count or -errno. */
void IocpPollSetAlert(IocpPollSet *setPtr);
				/* Let the next fetch return at once. */

struct epoll_event;
int IocpEpollWait(int epollFd, struct epoll_event *events, int max, int64_t timeoutNs);

#endif /* IOCP_POLLSET_H */
