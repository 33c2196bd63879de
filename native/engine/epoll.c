/*
 * epoll.c --
 *	The epoll engine, for Linux where io_uring is forbidden.
 *
 *	It emulates completions: an op is tried when it is submitted; if the socket is not ready it
 *	is parked at its handle and tried again when epoll reports the handle. Descriptors are
 *	registered once, edge-triggered for both directions, when the first op parks, so that a
 *	short connection whose request is already there costs no epoll_ctl at all and no op costs
 *	one later.
 *
 *	An op, and the procedure that makes each move:
 *
 *	  submitted -> to try	EpollSubmit		to try -> parked	EpollPark
 *	  parked -> to try	EpollCollect, EpollCancel	to try -> reaped	EpollTry
 *
 *	An op that sends or writes a file is given to other threads (filejobs.c) when it is tried:
 *
 *	  to try -> a job	EpollFile		a job -> to try		EpollTakeFiles
 */

#include "engine.h"
#include "filejobs.h"
#include "pollset.h"
#include <poll.h>
#include <sys/epoll.h>

#define EPOLL_EVENTS 256
#define EPOLL_SKIPS 8		/* So often ops are tried before edges are fetched again. */

/* IocpHandle.flags */
#define EPOLL_HF_ATTACHED 1	/* Registered with epoll. */
#define EPOLL_HF_NO_READ 2	/* A read found nothing since the last edge. */
#define EPOLL_HF_NO_WRITE 4	/* A write found no room since the last edge. */
#define EPOLL_HF_SHORT 8	/* The end, or urgent data, was seen: a receive stops short of it,
				 * and there need not be a further edge. */
#define EPOLL_HF_NONBLOCKING 16	/* A listener's descriptor has been made non-blocking. */
#define EPOLL_HF_WRITE_EDGE 32	/* There was an edge for writing since a job was started. */

/* IocpOp.engineFlags */
#define EPOLL_OPF_CANCEL 1
#define EPOLL_OPF_CONNECTING 2
#define EPOLL_OPF_TO_TRY 4	/* On the engine's list. */
#define EPOLL_OPF_JOB 8		/* A job has the file's op, or has done it: see result. */

#define EPOLL_IN_JOB 1		/* Result of EpollFile. */

typedef struct EpollEngine {
    IocpEngine base;
    int epollFd;
    int attendFd;		/* Registered, with data.ptr NULL; -1: none. */
    IocpOp *firstPtr, *lastPtr;	/* Ops to try. */
    int skipped;		/* Edges have not been fetched as often. */
    IocpBuf *freePtr;		/* Pool buffers that nobody uses. */
    IocpPool pool;
    IocpFileJobs jobs;		/* Registered, with the engine as data.ptr, once there was one. */
    struct epoll_event events[EPOLL_EVENTS];
} EpollEngine;

static int
EpollProbe(char *reason, size_t size)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    int result = fd < 0 ? -errno : 0;

    if (result < 0) {
	snprintf(reason, size, "epoll_create1: %s", strerror(-result));
    } else {
	close(fd);
	reason[0] = '\0';
    }
    return result;
}

static int
EpollOpen(IocpEngine **enginePtrPtr)
{
    EpollEngine *epollPtr = calloc(1, sizeof(EpollEngine));

    if (epollPtr == NULL) {
	return -ENOMEM;
    }
    epollPtr->base.typePtr = &iocpEpollEngine;
    epollPtr->attendFd = epollPtr->jobs.fd = -1;
    epollPtr->epollFd = epoll_create1(EPOLL_CLOEXEC);
    if (epollPtr->epollFd < 0) {
	int result = -errno;

	free(epollPtr);
	return result;
    }
    *enginePtrPtr = &epollPtr->base;
    return 0;
}

static void
EpollClose(IocpEngine *enginePtr)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;

    close(epollPtr->epollFd);
    IocpFileJobsClose(&epollPtr->jobs);
    IocpPoolFree(&epollPtr->pool);
    free(epollPtr);
}

/*
 * EpollSetBlocking --
 *	Connecting and accepting have no flag for a single call as receiving and sending have.
 *	Elsewhere descriptors stay blocking: a child that is given one (exec >@ channel) shares the
 *	setting.
 */
static void
EpollSetBlocking(int fd, int blocking)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0) {
	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    }
}

static void
EpollAttach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    (void)enginePtr;
    handlePtr->flags = 0;
}

static void
EpollDetach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;

    /*
     * Closing the descriptor is not enough: a child between fork and exec holds a copy, and epoll
     * would go on reporting a handle that is freed.
     */

    if (handlePtr->flags & EPOLL_HF_ATTACHED) {
	epoll_ctl(epollPtr->epollFd, EPOLL_CTL_DEL, handlePtr->fd, NULL);
    }
    if (handlePtr->flags & EPOLL_HF_NONBLOCKING) {
	EpollSetBlocking(handlePtr->fd, 1);	/* Others may go on with a copy. */
    }
    handlePtr->flags = 0;
}

static void
EpollToTry(EpollEngine *epollPtr, IocpOp *opPtr)
{
    if (opPtr->engineFlags & EPOLL_OPF_TO_TRY) {
	return;
    }
    opPtr->engineFlags |= EPOLL_OPF_TO_TRY;
    opPtr->nextPtr = NULL;
    if (epollPtr->lastPtr != NULL) {
	epollPtr->lastPtr->nextPtr = opPtr;
    } else {
	epollPtr->firstPtr = opPtr;
    }
    epollPtr->lastPtr = opPtr;
}

static IocpSubmit
EpollSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    opPtr->engineFlags = 0;
    if (IocpOpIsFile(opPtr)) {
	atomic_store_explicit(&((IocpFileOp *)opPtr)->cancelled, 0, memory_order_relaxed);
    }
    EpollToTry((EpollEngine *)enginePtr, opPtr);
    return IOCP_QUEUED;
}

static inline int
EpollIsRead(const IocpOp *opPtr)
{
    return opPtr->kind == IOCP_OP_ACCEPT || opPtr->kind == IOCP_OP_RECV;
}

static void
EpollUnpark(EpollEngine *epollPtr, IocpOp **slotPtr)
{
    if (*slotPtr != NULL) {
	IocpOp *opPtr = *slotPtr;

	*slotPtr = NULL;
	EpollToTry(epollPtr, opPtr);
    }
}

static void
EpollCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;
    IocpOp **slotPtr = EpollIsRead(opPtr) ? &handlePtr->readOpPtr : &handlePtr->writeOpPtr;

    opPtr->engineFlags |= EPOLL_OPF_CANCEL;
    if (IocpOpIsFile(opPtr)) {
	atomic_store_explicit(&((IocpFileOp *)opPtr)->cancelled, 1, memory_order_relaxed);
    }
    if (*slotPtr == opPtr) {
	EpollUnpark((EpollEngine *)enginePtr, slotPtr);
    }
}

/*
 * EpollPark --
 *	Let an op wait until its handle is ready.
 * Results:
 *	0; or -errno if the handle cannot be registered.
 */
static int
EpollPark(EpollEngine *epollPtr, IocpOp *opPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;

    if (!(handlePtr->flags & EPOLL_HF_ATTACHED)) {
	struct epoll_event event = {
	    .events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, .data.ptr = handlePtr
	};

	if (epoll_ctl(epollPtr->epollFd, EPOLL_CTL_ADD, handlePtr->fd, &event) < 0) {
	    return -errno;
	}
	handlePtr->flags |= EPOLL_HF_ATTACHED;
    }
    if (EpollIsRead(opPtr)) {
	handlePtr->readOpPtr = opPtr;
    } else {
	handlePtr->writeOpPtr = opPtr;
    }
    return 0;
}

static int
EpollConnect(IocpOp *opPtr)
{
    const IocpConnectOp *connectOpPtr = (const IocpConnectOp *)opPtr;
    int fd = opPtr->handlePtr->fd;
    int error = 0;
    socklen_t length = sizeof(error);

    if (!(opPtr->engineFlags & EPOLL_OPF_CONNECTING)) {
	opPtr->engineFlags |= EPOLL_OPF_CONNECTING;
	EpollSetBlocking(fd, 0);
    } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) {
	return -error;
    }
    if (connect(fd, connectOpPtr->addrPtr, connectOpPtr->addrLen) < 0 && errno != EISCONN) {
	return errno == EINPROGRESS || errno == EALREADY ? -EAGAIN : -errno;
    }
    EpollSetBlocking(fd, 1);
    return 0;
}

static int
EpollAccept(EpollEngine *epollPtr, IocpOp *opPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;
    int result;

    if (!(handlePtr->flags & EPOLL_HF_NONBLOCKING) && !(opPtr->flags & IOCP_OPF_SHARED)) {
	handlePtr->flags |= EPOLL_HF_NONBLOCKING;
	EpollSetBlocking(handlePtr->fd, 0);
    }
    IOCP_ADD(epollPtr->base.counts.enters, 1);
    result = accept4(handlePtr->fd, NULL, NULL, SOCK_CLOEXEC);
    return result < 0 ? -errno : result;
}

/*
 * EpollRecv --
 *	Receive into the op's buffers, or into one of the pool.
 * Results:
 *	Count or -errno; -EAGAIN: park it.
 */
static int
EpollRecv(EpollEngine *epollPtr, IocpOp *opPtr, IocpCompletion *compPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;
    struct iovec vecs[IOCP_VECS_MAX];
    struct msghdr message = {.msg_iov = vecs};
    size_t room = 0;
    ssize_t result;

    if (opPtr->bufPtr != NULL) {
	message.msg_iovlen = (size_t)IocpFillVecs(vecs, IOCP_VECS_MAX, opPtr);
    } else {
	if (epollPtr->freePtr == NULL) {
	    IocpBuf *bufPtr = IocpPoolGrow(&epollPtr->pool);

	    if (bufPtr == NULL) {
		return -ENOBUFS;
	    }
	    for (int i = 0; i < IOCP_POOL_CHUNK; i++) {
		bufPtr[i].nextPtr = epollPtr->freePtr;
		epollPtr->freePtr = &bufPtr[i];
	    }
	    IOCP_ADD(epollPtr->base.counts.poolBytes,
		    (uint64_t)IOCP_POOL_CHUNK * IOCP_POOL_BUFSIZE);
	}
	vecs[0].iov_base = epollPtr->freePtr->data;
	vecs[0].iov_len = epollPtr->freePtr->size;
	message.msg_iovlen = 1;
    }
    IOCP_ADD(epollPtr->base.counts.enters, 1);
    result = recvmsg(handlePtr->fd, &message, MSG_DONTWAIT);
    if (result < 0) {
	return -errno;
    }
    for (size_t i = 0; i < message.msg_iovlen; i++) {
	room += vecs[i].iov_len;
    }
    if ((size_t)result == room) {
	compPtr->flags |= IOCP_COMPF_MORE_DATA;
    } else if ((handlePtr->flags & (EPOLL_HF_ATTACHED | EPOLL_HF_SHORT)) == EPOLL_HF_ATTACHED) {
	/*
	 * A short receive emptied the socket; more data or the peer's end make a new edge. An end,
	 * or an urgent mark, that was reported together with this data does not.
	 */
	handlePtr->flags |= EPOLL_HF_NO_READ;
    }
    if (opPtr->bufPtr == NULL && result > 0) {
	compPtr->bufPtr = epollPtr->freePtr;
	epollPtr->freePtr = compPtr->bufPtr->nextPtr;
	compPtr->bufPtr->nextPtr = NULL;
    }
    return (int)result;
}

static int
EpollSend(EpollEngine *epollPtr, IocpOp *opPtr)
{
    struct iovec vecs[IOCP_VECS_MAX];
    struct msghdr message = {.msg_iov = vecs};
    ssize_t result;

    message.msg_iovlen = (size_t)IocpFillVecs(vecs, IOCP_VECS_MAX, opPtr);
    IOCP_ADD(epollPtr->base.counts.enters, 1);
    result = sendmsg(opPtr->handlePtr->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return result < 0 ? -errno : (int)result;
}

/*
 * EpollOpenJobs --
 *	The engine has the op of a file for the first time.
 * Results:
 *	0 or -errno.
 */
static int
EpollOpenJobs(EpollEngine *epollPtr)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = epollPtr};
    int result = IocpFileJobsOpen(&epollPtr->jobs);

    if (result == 0
	    && epoll_ctl(epollPtr->epollFd, EPOLL_CTL_ADD, epollPtr->jobs.fd, &event) < 0) {
	result = -errno;
	IocpFileJobsClose(&epollPtr->jobs);
    }
    return result;
}

/*
 * EpollFile --
 *	Have a part of a file sent or written; or tell how that went.
 * Results:
 *	EPOLL_IN_JOB: it is under way. -EAGAIN: park it. Otherwise *resultPtr is the op's.
 */
static int
EpollFile(EpollEngine *epollPtr, IocpOp *opPtr, int *resultPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;
    IocpFileOp *fileOpPtr = (IocpFileOp *)opPtr;
    struct pollfd room = {.fd = handlePtr->fd, .events = POLLOUT};

    if (opPtr->engineFlags & EPOLL_OPF_JOB) {
	opPtr->engineFlags &= ~(unsigned)EPOLL_OPF_JOB;
	if (!IocpFileWaits(fileOpPtr)) {
	    *resultPtr = fileOpPtr->result;
	    return 0;
	} else if (opPtr->engineFlags & EPOLL_OPF_CANCEL) {
	    *resultPtr = -ECANCELED;
	    return 0;
	} else if (!(handlePtr->flags & EPOLL_HF_WRITE_EDGE)) {
	    return -EAGAIN;
	}
    } else if ((opPtr->flags & IOCP_OPF_EXPECT_WAIT) && poll(&room, 1, 0) == 0) {
	opPtr->flags &= ~(unsigned)IOCP_OPF_EXPECT_WAIT;
	return -EAGAIN;
    }
    if (epollPtr->jobs.fd < 0) {
	*resultPtr = EpollOpenJobs(epollPtr);
	if (*resultPtr < 0) {
	    return 0;
	}
    }
    if (opPtr->kind == IOCP_OP_SEND_FILE) {
	handlePtr->flags &= ~(unsigned)EPOLL_HF_WRITE_EDGE;
    }
    opPtr->engineFlags |= EPOLL_OPF_JOB;
    IocpFileStart(&epollPtr->jobs, fileOpPtr);
    return EPOLL_IN_JOB;
}

static void
EpollTakeFiles(EpollEngine *epollPtr)
{
    IocpFileOp *nextPtr;
    char signals[IOCP_FILE_SIGNALS];

    IOCP_ADD(epollPtr->base.counts.enters, 1);
    if (read(epollPtr->jobs.fd, signals, sizeof(signals)) < 0) {
	/* It was there: nobody else reads it. */
    }
    for (IocpFileOp *fileOpPtr = IocpFileTake(&epollPtr->jobs); fileOpPtr != NULL;
	    fileOpPtr = nextPtr) {
	nextPtr = fileOpPtr->linkPtr;
	EpollToTry(epollPtr, &fileOpPtr->op);
    }
}

/*
 * EpollTry --
 *	Do what an op asks for, if its socket is ready.
 * Results:
 *	1: *compPtr tells the result. 0: the op is parked, or a job has it.
 */
static int
EpollTry(EpollEngine *epollPtr, IocpOp *opPtr, IocpCompletion *compPtr)
{
    IocpHandle *handlePtr = opPtr->handlePtr;
    unsigned notReady = opPtr->kind == IOCP_OP_WRITE_FILE ? 0
	    : EpollIsRead(opPtr) ? EPOLL_HF_NO_READ : EPOLL_HF_NO_WRITE;
    int result;

    compPtr->opPtr = opPtr;
    compPtr->flags = 0;
    compPtr->bufPtr = NULL;
    if ((opPtr->engineFlags & (EPOLL_OPF_CANCEL | EPOLL_OPF_JOB)) == EPOLL_OPF_CANCEL) {
	compPtr->result = -ECANCELED;
	return 1;
    }
    do {
	if (handlePtr->flags & notReady) {
	    result = -EAGAIN;
	    break;
	}
	switch (opPtr->kind) {
	case IOCP_OP_ACCEPT:
	    result = EpollAccept(epollPtr, opPtr);
	    if (result >= 0 && --opPtr->bufCount > 0) {
		compPtr->flags |= IOCP_COMPF_MORE;
		EpollToTry(epollPtr, opPtr);
	    }
	    break;
	case IOCP_OP_CONNECT:
	    result = EpollConnect(opPtr);
	    break;
	case IOCP_OP_RECV:
	    result = EpollRecv(epollPtr, opPtr, compPtr);
	    break;
	case IOCP_OP_SEND:
	    result = EpollSend(epollPtr, opPtr);
	    break;
	case IOCP_OP_SEND_FILE:
	case IOCP_OP_WRITE_FILE:
	    switch (EpollFile(epollPtr, opPtr, &result)) {
	    case EPOLL_IN_JOB:
		return 0;
	    case -EAGAIN:
		result = -EAGAIN;
		break;
	    }
	    break;
	}
    } while (result == -EINTR);
    if (result == -EAGAIN) {
	handlePtr->flags |= notReady;
	result = EpollPark(epollPtr, opPtr);
	if (result == 0) {
	    return 0;
	}
    }
    compPtr->result = result;
    return 1;
}

/*
 * EpollCollect --
 *	Fetch edges; the ops that waited for them are to be tried again.
 * Results:
 *	0, or -EINTR after a signal.
 */
static int
EpollCollect(EpollEngine *epollPtr, int64_t timeoutNs)
{
    int count;

    IOCP_ADD(epollPtr->base.counts.enters, 1);
    epollPtr->skipped = 0;
    count = IocpEpollWait(epollPtr->epollFd, epollPtr->events, EPOLL_EVENTS, timeoutNs);
    if (count < 0) {
	return -errno;
    }
    for (int i = 0; i < count; i++) {
	IocpHandle *handlePtr = epollPtr->events[i].data.ptr;
	uint32_t events = epollPtr->events[i].events;

	if (handlePtr == NULL) {
	    epollPtr->base.attending = 0;
	    continue;
	}
	if (epollPtr->events[i].data.ptr == epollPtr) {
	    EpollTakeFiles(epollPtr);
	    continue;
	}
	if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
	    handlePtr->flags &= ~(unsigned)EPOLL_HF_NO_READ;
	    EpollUnpark(epollPtr, &handlePtr->readOpPtr);
	}
	if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
	    handlePtr->flags |= EPOLL_HF_SHORT;
	}
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
	    handlePtr->flags &= ~(unsigned)EPOLL_HF_NO_WRITE;
	    handlePtr->flags |= EPOLL_HF_WRITE_EDGE;
	    EpollUnpark(epollPtr, &handlePtr->writeOpPtr);
	}
    }
    return 0;
}

static int
EpollTryAll(EpollEngine *epollPtr, IocpCompletion *completions, int max)
{
    int count = 0;

    while (count < max && epollPtr->firstPtr != NULL) {
	IocpOp *opPtr = epollPtr->firstPtr;

	epollPtr->firstPtr = opPtr->nextPtr;
	if (epollPtr->firstPtr == NULL) {
	    epollPtr->lastPtr = NULL;
	}
	opPtr->engineFlags &= ~(unsigned)EPOLL_OPF_TO_TRY;
	count += EpollTry(epollPtr, opPtr, &completions[count]);
    }
    return count;
}

static int
EpollReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;
    int count = EpollTryAll(epollPtr, completions, max);

    /*
     * An op that never has to wait must not keep others from being heard of.
     */

    if (count == 0 || (count < max && ++epollPtr->skipped >= EPOLL_SKIPS)) {
	EpollCollect(epollPtr, 0);
	count += EpollTryAll(epollPtr, completions + count, max - count);
    }
    return count;
}

static int
EpollWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;

    if (timeoutNs == 0 || epollPtr->firstPtr != NULL) {
	return 0;		/* EpollReap looks. */
    }
    IOCP_ADD(epollPtr->base.counts.waits, 1);
    return EpollCollect(epollPtr, timeoutNs);
}

/*
 * EpollAttend --
 *	One report for each call: what is readable must not end waits that are not about it.
 */
static void
EpollAttend(IocpEngine *enginePtr, int fd)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = NULL};

    if (fd != epollPtr->attendFd && epollPtr->attendFd >= 0) {
	epoll_ctl(epollPtr->epollFd, EPOLL_CTL_DEL, epollPtr->attendFd, NULL);
	epollPtr->attendFd = -1;
    }
    enginePtr->attending = fd >= 0 && epoll_ctl(epollPtr->epollFd,
	    epollPtr->attendFd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0;
    if (enginePtr->attending) {
	epollPtr->attendFd = fd;
    }
}

static int
EpollArm(IocpEngine *enginePtr, int armed)
{
    return armed && ((EpollEngine *)enginePtr)->firstPtr != NULL;
}

static int
EpollNotifyFd(IocpEngine *enginePtr)
{
    return ((EpollEngine *)enginePtr)->epollFd;
}

static void
EpollNotified(IocpEngine *enginePtr)
{
    (void)enginePtr;
}

static void
EpollRelease(IocpEngine *enginePtr, IocpBuf *bufPtr)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;

    bufPtr->nextPtr = epollPtr->freePtr;
    epollPtr->freePtr = bufPtr;
}

static void
EpollForked(IocpEngine *enginePtr)
{
    EpollEngine *epollPtr = (EpollEngine *)enginePtr;

    close(epollPtr->epollFd);
    IocpFileJobsClose(&epollPtr->jobs);
}

const IocpEngineType iocpEpollEngine = {
    .typeName = "epoll",
    .version = IOCP_ENGINE_VERSION,
    .probeProc = EpollProbe,
    .openProc = EpollOpen,
    .closeProc = EpollClose,
    .attachProc = EpollAttach,
    .detachProc = EpollDetach,
    .submitProc = EpollSubmit,
    .cancelProc = EpollCancel,
    .sendNowProc = IocpSendNow,
    .pushProc = IocpPush,
    .reapProc = EpollReap,
    .waitProc = EpollWait,
    .attendProc = EpollAttend,
    .armProc = EpollArm,
    .notifyFdProc = EpollNotifyFd,
    .notifiedProc = EpollNotified,
    .releaseProc = EpollRelease,
    .forkedProc = EpollForked
};
