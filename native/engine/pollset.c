/*
 * pollset.c --
 *	A set of descriptors to watch, on Linux: an epoll instance, and an eventfd for alerts.
 *
 *	epoll watches files, not numbers: of a descriptor that is closed while a copy of it lives
 *	on in a child, it goes on reporting, and nothing removes it. The serial that comes with
 *	each report lets the caller notice, who then makes a new set.
 */

#include "engine.h"
#include "pollset.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define EVENTS_MAX 256
#define ALERT_FD (-1)		/* In a report: the eventfd. */

struct IocpPollSet {
    int epollFd;
    int alertFd;
    struct epoll_event events[EVENTS_MAX];
};

/*
 * Wait --
 *	epoll_wait with the kernel's own precision. Linux before 5.11 counts in milliseconds; and a
 *	seccomp filter that does not know epoll_pwait2, as older container run-times have, forbids
 *	it.
 */
static int
Wait(int epollFd, struct epoll_event *events, int max, int64_t timeoutNs)
{
    struct timespec timeout = {
	.tv_sec = timeoutNs / IOCP_SECOND, .tv_nsec = timeoutNs % IOCP_SECOND
    };
    static _Atomic int inMs = 0;	/* That is how it is here. */
    int64_t ms;
    int count;

    if (!atomic_load_explicit(&inMs, memory_order_relaxed)) {
	count = epoll_pwait2(epollFd, events, max, timeoutNs < 0 ? NULL : &timeout, NULL);
	if (count >= 0 || (errno != ENOSYS && errno != EPERM)) {
	    return count;
	}
	atomic_store_explicit(&inMs, 1, memory_order_relaxed);
    }
    ms = (timeoutNs + IOCP_MS - 1) / IOCP_MS;
    return epoll_wait(epollFd, events, max,
	    timeoutNs < 0 ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms);
}

/*
 * IocpEpollWait --
 *	The same, but what interrupts it is a signal. Where it may be something else, ppoll waits,
 *	which the kernel goes on with by itself then.
 */
int
IocpEpollWait(int epollFd, struct epoll_event *events, int max, int64_t timeoutNs)
{
    struct timespec timeout = {
	.tv_sec = timeoutNs / IOCP_SECOND, .tv_nsec = timeoutNs % IOCP_SECOND
    };
    struct pollfd poller = {.fd = epollFd, .events = POLLIN};

    if (timeoutNs != 0 && IocpUringEcho()) {
	if (ppoll(&poller, 1, timeoutNs < 0 ? NULL : &timeout, NULL) < 0) {
	    return -1;
	}
	timeoutNs = 0;
    }
    return Wait(epollFd, events, max, timeoutNs);
}

static uint64_t
Pack(int fd, uint32_t serial)
{
    return (uint64_t)serial << 32 | (uint32_t)fd;
}

IocpPollSet *
IocpPollSetNew(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = Pack(ALERT_FD, 0)};
    IocpPollSet *setPtr = malloc(sizeof(IocpPollSet));

    if (setPtr == NULL) {
	return NULL;
    }
    setPtr->epollFd = epoll_create1(EPOLL_CLOEXEC);
    setPtr->alertFd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (setPtr->epollFd < 0 || setPtr->alertFd < 0
	    || epoll_ctl(setPtr->epollFd, EPOLL_CTL_ADD, setPtr->alertFd, &event) < 0) {
	int error = errno;

	IocpPollSetFree(setPtr);
	errno = error;
	return NULL;
    }
    return setPtr;
}

void
IocpPollSetFree(IocpPollSet *setPtr)
{
    if (setPtr->epollFd >= 0) {
	close(setPtr->epollFd);
    }
    if (setPtr->alertFd >= 0) {
	close(setPtr->alertFd);
    }
    free(setPtr);
}

int
IocpPollSetFd(const IocpPollSet *setPtr)
{
    return setPtr->epollFd;
}

static int
Control(IocpPollSet *setPtr, int operation, int fd, uint32_t serial, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.u64 = Pack(fd, serial)};

    return epoll_ctl(setPtr->epollFd, operation, fd, &event) < 0 ? -errno : 0;
}

int
IocpPollSetAdd(IocpPollSet *setPtr, int fd, uint32_t serial, int events)
{
    return Control(setPtr, EPOLL_CTL_ADD, fd, serial, events);
}

int
IocpPollSetChange(IocpPollSet *setPtr, int fd, uint32_t serial, int events)
{
    return Control(setPtr, events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, serial, events);
}

/*
 * Translate --
 *	What select(2) would say of a descriptor.
 */
static int
Translate(uint32_t events)
{
    return ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ? POLLIN : 0)
	    | ((events & (EPOLLOUT | EPOLLERR)) ? POLLOUT : 0)
	    | ((events & EPOLLPRI) ? POLLPRI : 0);
}

int
IocpPollSetFetch(IocpPollSet *setPtr, IocpPolled *polled, int max, int64_t timeoutNs)
{
    int ready = IocpEpollWait(setPtr->epollFd, setPtr->events,
	    max < EVENTS_MAX ? max : EVENTS_MAX, timeoutNs);
    int count = 0;

    for (int i = 0; i < ready; i++) {
	uint64_t data = setPtr->events[i].data.u64;
	uint64_t alerts;

	if ((int)(uint32_t)data != ALERT_FD) {
	    polled[count].fd = (int)(uint32_t)data;
	    polled[count].serial = (uint32_t)(data >> 32);
	    polled[count++].events = Translate(setPtr->events[i].events);
	} else if (read(setPtr->alertFd, &alerts, sizeof(alerts)) < 0) {
	    /* It was there: nobody else reads it. */
	}
    }
    return ready < 0 ? -errno : count;
}

void
IocpPollSetAlert(IocpPollSet *setPtr)
{
    static const uint64_t one = 1;
    int error = errno;

    if (write(setPtr->alertFd, &one, sizeof(one)) < 0) {
	/* So many are there already that one more makes no difference. */
    }
    errno = error;
}
