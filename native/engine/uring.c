/*
 * uring.c --
 *	The io_uring engine.
 *
 *	The ring lives in the thread that uses it. Where the kernel has them (6.1), SINGLE_ISSUER
 *	and DEFER_TASKRUN keep completions from interrupting the thread: they are made when it asks
 *	for them. TASKRUN_FLAG says in shared memory whether asking is worth a system call.
 *
 *	Submissions gather in the ring until the next reap or wait, so that one system call hands
 *	over what a whole turn of the event loop wrote and fetches what is complete.
 *
 *	Tcl's notifier cannot wait on a DEFER_TASKRUN ring itself (select never wakes), so an
 *	eventfd is registered with it; the kernel is told to signal it only while somebody waits on
 *	it.
 *
 *	Receives take their buffers from a ring of their own (recvring.c).
 *
 *	A multishot accept takes all that the socket's queue has. Worse, where several processes
 *	accept from one socket the kernel wakes one of them for each connection, and that one may be
 *	busy for long. So for those a poll, of which all are woken, comes before a plain accept.
 *
 *	Files are sent and written by threads (filejobs.c). A read of their pipe, in the ring while
 *	jobs are out, ends every kind of wait; a poll waits for room in a socket.
 */

#include "engine.h"
#include "filejobs.h"
#include "recvring.h"
#include <poll.h>
#include <sys/eventfd.h>

#define URING_ENTRIES 1024
#define URING_CQ_ENTRIES 8192
#define URING_VECS 4096		/* Vectors for the sends and receives of one submission. */
#define URING_MSGS 1024
#define URING_REAP_MORE 8
#define URING_ECHO_NS (10 * (uint64_t)IOCP_SECOND)

#define URING_OPF_CANCELED 1	/* It is not to be submitted again. */
#define URING_OPF_LISTED 2	/* On the list of cancellations that found the ring full. */
#define URING_OPF_POLL 4	/* A file's op that waits for room. */
#define URING_OPF_ACCEPT 8	/* On the list of accepts to be tried. */
#define URING_OPF_DONE 16	/* Its last completion is on its way to the driver. */

typedef struct UringEngine {
    IocpEngine base;
    struct io_uring ring;
    int eventFd;
    IocpRecvRing recvRing;
    IocpOp *cancelPtr;		/* Cancellations to repeat. */
    IocpOp *acceptPtr;		/* Shared accepts whose socket was readable. */
    int unattend;		/* That of attendKey's poll is one of them. */
    int attendKey;		/* Its address stands for attendProc's descriptor. */
    IocpFileJobs jobs;
    int jobsRead;		/* Their pipe is being read, */
    char signals[IOCP_FILE_SIGNALS];	/* into this, whose address stands for it. */
    IocpFileOp *filePtr;	/* Files' ops that are complete, to be reaped. */
    /*
     * Vectors and headers of ops that are queued but not submitted. The kernel has copied them
     * when it has taken the entry (IORING_FEAT_SUBMIT_STABLE), so each submission starts anew.
     */
    int vecCount;
    int msgCount;
    struct iovec vecs[URING_VECS];
    struct msghdr msgs[URING_MSGS];
} UringEngine;

/*
 * UringExit, IocpUringEcho --
 *	Close a ring. The kernel finishes with it a little later, in the thread that has opened it,
 *	and interrupts what that one waits in by then, as a signal would. IocpUringEcho tells
 *	whether that may be.
 */
static IOCP_THREAD_LOCAL uint64_t echoEnd = 0;

static void
UringExit(struct io_uring *ringPtr)
{
    io_uring_queue_exit(ringPtr);
    echoEnd = IocpNow() + URING_ECHO_NS;
}

int
IocpUringEcho(void)
{
    return echoEnd != 0 && IocpNow() < echoEnd;
}

/*
 * UringSetup --
 *	Set up a ring with the best flags that the kernel takes.
 * Results:
 *	0 or -errno.
 */
static int
UringSetup(struct io_uring *ringPtr, unsigned entries, unsigned cqEntries)
{
    static const unsigned flagSets[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    };
    int result = -EINVAL;

    for (size_t i = 0; i < sizeof(flagSets) / sizeof(flagSets[0]) && result == -EINVAL; i++) {
	struct io_uring_params params = {
	    .flags = flagSets[i] | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP
		    | IORING_SETUP_CQSIZE,
	    .cq_entries = cqEntries
	};

	result = io_uring_queue_init_params(entries, ringPtr, &params);
    }
    return result;
}

static int
UringProbe(char *reason, size_t size)
{
    struct io_uring ring;
    IocpRecvRing recvRing = {0};
    int result = UringSetup(&ring, 4, 8);

    switch (result) {
    case 0:
	result = IocpRecvRingOpen(&recvRing, &ring, 8);
	if (result == 0) {
	    IocpRecvRingProbe(&recvRing, &ring);
	}
	UringExit(&ring);
	IocpRecvRingFree(&recvRing);
	if (result == 0) {
	    reason[0] = '\0';
	} else {
	    snprintf(reason, size, "the kernel is older than 5.19 (no provided buffer rings: %s)",
		    strerror(-result));
	}
	return result;
    case -EPERM:
    case -EACCES:
	snprintf(reason, size, "forbidden here (%s): by a seccomp filter, as most containers have,"
		" or by the sysctl kernel.io_uring_disabled", strerror(-result));
	return result;
    case -ENOSYS:
	snprintf(reason, size, "the kernel has no io_uring (%s)", strerror(-result));
	return result;
    case -ENOMEM:
	snprintf(reason, size, "not enough lockable memory (%s): raise RLIMIT_MEMLOCK",
		strerror(-result));
	return result;
    case -EINVAL:
	snprintf(reason, size, "the kernel is older than 5.19 (%s)", strerror(-result));
	return result;
    default:
	snprintf(reason, size, "io_uring_setup: %s", strerror(-result));
	return result;
    }
}

static void
UringClose(IocpEngine *enginePtr)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;

    UringExit(&uringPtr->ring);
    IocpRecvRingFree(&uringPtr->recvRing);
    if (uringPtr->eventFd >= 0) {
	close(uringPtr->eventFd);
    }
    IocpFileJobsClose(&uringPtr->jobs);
    free(uringPtr);
}

static int
UringOpen(IocpEngine **enginePtrPtr)
{
    UringEngine *uringPtr = calloc(1, sizeof(UringEngine));
    int result;

    if (uringPtr == NULL) {
	return -ENOMEM;
    }
    uringPtr->base.typePtr = &iocpUringEngine;
    uringPtr->eventFd = uringPtr->jobs.fd = -1;
    result = UringSetup(&uringPtr->ring, URING_ENTRIES, URING_CQ_ENTRIES);
    if (result < 0) {
	free(uringPtr);
	return result;
    }
    result = IocpRecvRingOpen(&uringPtr->recvRing, &uringPtr->ring, IOCP_POOL_MAX);
    if (result == 0 && !IocpRecvRingGrow(&uringPtr->recvRing, &uringPtr->base.counts)) {
	result = -ENOMEM;
    }
    if (result == 0) {
	uringPtr->eventFd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	result = uringPtr->eventFd < 0 ? -errno
		: io_uring_register_eventfd(&uringPtr->ring, uringPtr->eventFd);
    }
    if (result < 0) {
	UringClose(&uringPtr->base);
	return result;
    }
    io_uring_cq_eventfd_toggle(&uringPtr->ring, false);
    io_uring_register_ring_fd(&uringPtr->ring);
    *enginePtrPtr = &uringPtr->base;
    return 0;
}

/*
 * A ring needs no registration of descriptors. They must be blocking ones: on others io_uring
 * completes with -EAGAIN instead of waiting.
 */
static void
UringAttach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    (void)enginePtr;
    (void)handlePtr;
}

static void
UringDetach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    (void)enginePtr;
    (void)handlePtr;
}

/*
 * UringSubmitQueued --
 *	Hand the queued entries to the kernel and let it post what is complete.
 */
static void
UringSubmitQueued(UringEngine *uringPtr)
{
    int result;

    IOCP_ADD(uringPtr->base.counts.enters, 1);
    result = io_uring_submit_and_get_events(&uringPtr->ring);
    if (io_uring_sq_ready(&uringPtr->ring) == 0) {
	uringPtr->vecCount = uringPtr->msgCount = 0;
    }

    /*
     * -EBUSY, -EAGAIN and -EINTR leave the entries queued: the next call repeats them. Anything
     * else would be a fault of this file.
     */

    if (result < 0 && result != -EBUSY && result != -EAGAIN && result != -EINTR) {
	fprintf(stderr, "iocp: io_uring_enter: %s\n", strerror(-result));
	abort();
    }
}

/*
 * UringEntry --
 *	An empty submission entry.
 * Results:
 *	NULL when the ring is full and the kernel does not take from it before completions are
 *	reaped.
 */
static struct io_uring_sqe *
UringEntry(UringEngine *uringPtr)
{
    struct io_uring_sqe *sqePtr = io_uring_get_sqe(&uringPtr->ring);

    if (sqePtr == NULL) {
	UringSubmitQueued(uringPtr);
	sqePtr = io_uring_get_sqe(&uringPtr->ring);
    }
    return sqePtr;
}

/*
 * UringMessage --
 *	A header that describes an op's buffers, for the next entry.
 * Results:
 *	NULL when there is none before completions are reaped. Otherwise there is room in the ring
 *	for the entry.
 */
static struct msghdr *
UringMessage(UringEngine *uringPtr, IocpOp *opPtr)
{
    struct msghdr *msgPtr;

    /*
     * Room in the ring first: making it starts the vectors anew.
     */

    if (io_uring_sq_space_left(&uringPtr->ring) == 0 || uringPtr->msgCount == URING_MSGS
	    || uringPtr->vecCount + IOCP_VECS_MAX > URING_VECS) {
	UringSubmitQueued(uringPtr);
	if (uringPtr->msgCount != 0) {
	    return NULL;
	}
    }
    msgPtr = &uringPtr->msgs[uringPtr->msgCount++];
    memset(msgPtr, 0, sizeof(*msgPtr));
    msgPtr->msg_iov = &uringPtr->vecs[uringPtr->vecCount];
    msgPtr->msg_iovlen = (size_t)IocpFillVecs(msgPtr->msg_iov, IOCP_VECS_MAX, opPtr);
    uringPtr->vecCount += (int)msgPtr->msg_iovlen;
    return msgPtr;
}

/*
 * UringReadJobs --
 *	See to it that a wait ends when a job is done.
 * Results:
 *	0; or -EBUSY if the ring is full, or another errno.
 */
static int
UringReadJobs(UringEngine *uringPtr)
{
    struct io_uring_sqe *sqePtr;
    int result = IocpFileJobsOpen(&uringPtr->jobs);

    if (uringPtr->jobsRead || result < 0) {
	return result;
    }
    sqePtr = UringEntry(uringPtr);
    if (sqePtr == NULL) {
	return -EBUSY;
    }
    io_uring_prep_read(sqePtr, uringPtr->jobs.fd, uringPtr->signals, IOCP_FILE_SIGNALS,
	    (uint64_t)-1);
    io_uring_sqe_set_data(sqePtr, uringPtr->signals);
    uringPtr->jobsRead = 1;
    return 0;
}

static void
UringFileComplete(UringEngine *uringPtr, IocpFileOp *fileOpPtr, int result)
{
    fileOpPtr->result = result;
    fileOpPtr->linkPtr = uringPtr->filePtr;
    uringPtr->filePtr = fileOpPtr;
}

/*
 * UringPollFile --
 *	Let a file's op wait until its socket has room.
 * Results:
 *	0 if the ring is full.
 */
static int
UringPollFile(UringEngine *uringPtr, IocpFileOp *fileOpPtr)
{
    struct io_uring_sqe *sqePtr = UringEntry(uringPtr);

    if (sqePtr == NULL) {
	return 0;
    }
    io_uring_prep_poll_add(sqePtr, fileOpPtr->op.handlePtr->fd, POLLOUT);
    io_uring_sqe_set_data(sqePtr, fileOpPtr);
    fileOpPtr->op.engineFlags |= URING_OPF_POLL;
    return 1;
}

static IocpSubmit
UringSubmitFile(UringEngine *uringPtr, IocpFileOp *fileOpPtr)
{
    int result = UringReadJobs(uringPtr);

    fileOpPtr->op.engineFlags = 0;
    atomic_store_explicit(&fileOpPtr->cancelled, 0, memory_order_relaxed);
    if (result == -EBUSY) {
	return IOCP_BUSY;
    } else if (result < 0) {
	UringFileComplete(uringPtr, fileOpPtr, result);
    } else if (!(fileOpPtr->op.flags & IOCP_OPF_EXPECT_WAIT)) {
	IocpFileStart(&uringPtr->jobs, fileOpPtr);
    } else if (!UringPollFile(uringPtr, fileOpPtr)) {
	return IOCP_BUSY;
    }
    return IOCP_QUEUED;
}

/*
 * UringTakeFiles --
 *	Jobs are done.
 */
static void
UringTakeFiles(UringEngine *uringPtr)
{
    IocpFileOp *nextPtr;

    uringPtr->jobsRead = 0;
    for (IocpFileOp *fileOpPtr = IocpFileTake(&uringPtr->jobs); fileOpPtr != NULL;
	    fileOpPtr = nextPtr) {
	nextPtr = fileOpPtr->linkPtr;
	if (!IocpFileWaits(fileOpPtr) || !UringPollFile(uringPtr, fileOpPtr)) {
	    UringFileComplete(uringPtr, fileOpPtr, fileOpPtr->result);
	} else if (fileOpPtr->cancelled) {
	    uringPtr->base.typePtr->cancelProc(&uringPtr->base, &fileOpPtr->op);
	}
    }
}

static void
UringPrepConnect(struct io_uring_sqe *sqePtr, const IocpConnectOp *opPtr)
{
    io_uring_prep_connect(sqePtr, opPtr->op.handlePtr->fd, opPtr->addrPtr, opPtr->addrLen);
}

static IocpSubmit
UringSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;
    int fd = opPtr->handlePtr->fd;
    struct msghdr *msgPtr = NULL;
    struct io_uring_sqe *sqePtr;
    struct iovec vec;

    if (IocpOpIsFile(opPtr)) {
	return UringSubmitFile(uringPtr, (IocpFileOp *)opPtr);
    }
    if (opPtr->bufPtr != NULL && opPtr->bufCount > 1) {
	msgPtr = UringMessage(uringPtr, opPtr);
	if (msgPtr == NULL) {
	    return IOCP_BUSY;
	}
    }
    sqePtr = UringEntry(uringPtr);
    if (sqePtr == NULL) {
	return IOCP_BUSY;
    }
    opPtr->engineFlags = 0;
    switch (opPtr->kind) {
    case IOCP_OP_ACCEPT:
	if (opPtr->flags & IOCP_OPF_SHARED) {
	    io_uring_prep_poll_add(sqePtr, fd, POLLIN);
	} else {
	    io_uring_prep_multishot_accept(sqePtr, fd, NULL, NULL, SOCK_CLOEXEC);
	}
	break;
    case IOCP_OP_CONNECT:
	UringPrepConnect(sqePtr, (const IocpConnectOp *)opPtr);
	break;
    case IOCP_OP_RECV:
	if (msgPtr != NULL) {
	    io_uring_prep_recvmsg(sqePtr, fd, msgPtr, 0);
	} else if (opPtr->bufPtr != NULL) {
	    IocpFillVecs(&vec, 1, opPtr);
	    io_uring_prep_recv(sqePtr, fd, vec.iov_base, vec.iov_len, 0);
	} else {
	    io_uring_prep_recv(sqePtr, fd, NULL, 0, 0);
	    IocpRecvRingPrep(sqePtr, opPtr->flags);
	}
	if (opPtr->flags & IOCP_OPF_EXPECT_WAIT) {
	    sqePtr->ioprio |= IORING_RECVSEND_POLL_FIRST;
	}
	break;
    case IOCP_OP_SEND:
	if (msgPtr != NULL) {
	    io_uring_prep_sendmsg(sqePtr, fd, msgPtr, MSG_NOSIGNAL);
	} else {
	    IocpFillVecs(&vec, 1, opPtr);
	    io_uring_prep_send(sqePtr, fd, vec.iov_base, vec.iov_len, MSG_NOSIGNAL);
	}
	break;
    case IOCP_OP_SEND_FILE:
    case IOCP_OP_WRITE_FILE:
	break;			/* Not here. */
    }
    io_uring_sqe_set_data(sqePtr, opPtr);
    return IOCP_QUEUED;
}

/*
 * UringCancelKey --
 *	Cancel what has the key for its user data.
 * Results:
 *	0 if there is no room in the ring.
 */
static int
UringCancelKey(UringEngine *uringPtr, void *keyPtr)
{
    struct io_uring_sqe *sqePtr = UringEntry(uringPtr);

    if (sqePtr == NULL) {
	return 0;
    }
    io_uring_prep_cancel64(sqePtr, (uint64_t)(uintptr_t)keyPtr, 0);
    io_uring_sqe_set_data(sqePtr, NULL);
    return 1;
}

static void
UringCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;

    opPtr->engineFlags |= URING_OPF_CANCELED;
    if (opPtr->engineFlags & (URING_OPF_ACCEPT | URING_OPF_DONE)) {
	return;
    }
    if (IocpOpIsFile(opPtr)) {
	atomic_store_explicit(&((IocpFileOp *)opPtr)->cancelled, 1, memory_order_relaxed);
	if (!(opPtr->engineFlags & URING_OPF_POLL)) {
	    return;
	}
    }
    if (!UringCancelKey(uringPtr, opPtr) && !(opPtr->engineFlags & URING_OPF_LISTED)) {
	opPtr->engineFlags |= URING_OPF_LISTED;
	opPtr->nextPtr = uringPtr->cancelPtr;
	uringPtr->cancelPtr = opPtr;
    }
}

/*
 * UringForgetCancel --
 *	An op has completed before its cancellation found room in the ring.
 */
static void
UringForgetCancel(UringEngine *uringPtr, IocpOp *opPtr)
{
    IocpOp **linkPtr = &uringPtr->cancelPtr;

    while (*linkPtr != opPtr) {
	linkPtr = &(*linkPtr)->nextPtr;
    }
    *linkPtr = opPtr->nextPtr;
    opPtr->engineFlags &= ~(unsigned)URING_OPF_LISTED;
}

static void
UringRepeatCancels(UringEngine *uringPtr)
{
    IocpOp *opPtr = uringPtr->cancelPtr;

    uringPtr->cancelPtr = NULL;
    while (opPtr != NULL) {
	IocpOp *nextPtr = opPtr->nextPtr;

	opPtr->engineFlags &= ~(unsigned)URING_OPF_LISTED;
	UringCancel(&uringPtr->base, opPtr);
	opPtr = nextPtr;
    }
    if (uringPtr->unattend) {
	uringPtr->unattend = !UringCancelKey(uringPtr, &uringPtr->attendKey);
    }
}

/*
 * UringRepeat --
 *	What found the ring full, or is to go on.
 */
static void
UringRepeat(UringEngine *uringPtr)
{
    if (uringPtr->cancelPtr != NULL || uringPtr->unattend) {
	UringRepeatCancels(uringPtr);
    }
    if (uringPtr->jobs.outCount > 0) {
	UringReadJobs(uringPtr);
    }
}

/*
 * UringFilePolled --
 *	The wait of a file's op for room is over: send the next part.
 */
static void
UringFilePolled(UringEngine *uringPtr, IocpFileOp *fileOpPtr, int result)
{
    fileOpPtr->op.engineFlags &= ~(unsigned)URING_OPF_POLL;
    if (fileOpPtr->op.engineFlags & URING_OPF_LISTED) {
	UringForgetCancel(uringPtr, &fileOpPtr->op);
    }
    if (result < 0) {
	UringFileComplete(uringPtr, fileOpPtr, result);
    } else {
	IocpFileStart(&uringPtr->jobs, fileOpPtr);
    }
}

/*
 * UringAcceptPolled --
 *	The socket of a shared accept is readable, for whoever comes first.
 */
static void
UringAcceptPolled(UringEngine *uringPtr, IocpOp *opPtr)
{
    if (opPtr->engineFlags & URING_OPF_LISTED) {
	UringForgetCancel(uringPtr, opPtr);
    }
    opPtr->engineFlags |= URING_OPF_ACCEPT;
    opPtr->nextPtr = uringPtr->acceptPtr;
    uringPtr->acceptPtr = opPtr;
}

/*
 * UringAccept --
 *	Accept what shared sockets have, as many as are wanted. Where others were faster, wait on.
 * Results:
 *	How many completions there are of it.
 */
static int
UringAccept(UringEngine *uringPtr, IocpCompletion *completions, int max)
{
    int count = 0;

    while (count < max && uringPtr->acceptPtr != NULL) {
	IocpOp *opPtr = uringPtr->acceptPtr;
	int result = -ECANCELED, more;

	if (!(opPtr->engineFlags & URING_OPF_CANCELED)) {
	    IOCP_ADD(uringPtr->base.counts.enters, 1);
	    result = accept4(opPtr->handlePtr->fd, NULL, NULL, SOCK_CLOEXEC);
	    if (result < 0) {
		result = -errno;
	    }
	}
	more = result >= 0 && --opPtr->bufCount > 0;
	if (!more) {
	    uringPtr->acceptPtr = opPtr->nextPtr;
	    opPtr->engineFlags &= ~(unsigned)URING_OPF_ACCEPT;
	    if (result == -EAGAIN && UringSubmit(&uringPtr->base, opPtr) == IOCP_QUEUED) {
		continue;
	    } else if (result == -EAGAIN) {
		result = -EINTR;	/* The ring is full. */
	    }
	    opPtr->engineFlags |= URING_OPF_DONE;
	}
	completions[count++] = (IocpCompletion){
	    .opPtr = opPtr, .result = result, .flags = more ? IOCP_COMPF_MORE : 0
	};
    }
    return count;
}

/*
 * UringTranslate --
 *	Make a completion of a completion queue entry.
 * Results:
 *	1; or 0 if there is nothing to tell the driver.
 */
static int
UringTranslate(UringEngine *uringPtr, const struct io_uring_cqe *cqePtr, IocpCompletion *compPtr)
{
    IocpOp *opPtr = io_uring_cqe_get_data(cqePtr);

    if (opPtr == NULL) {
	return 0;
    }
    if (io_uring_cqe_get_data(cqePtr) == &uringPtr->attendKey) {
	uringPtr->base.attending = 0;
	return 0;
    }
    if (io_uring_cqe_get_data(cqePtr) == uringPtr->signals) {
	UringTakeFiles(uringPtr);
	return 0;
    }
    if (opPtr->kind == IOCP_OP_SEND_FILE) {
	UringFilePolled(uringPtr, (IocpFileOp *)opPtr, cqePtr->res);
	return 0;
    }
    if (opPtr->kind == IOCP_OP_ACCEPT && (opPtr->flags & IOCP_OPF_SHARED) && cqePtr->res >= 0) {
	UringAcceptPolled(uringPtr, opPtr);
	return 0;
    }
    if (cqePtr->res == -ENOBUFS && opPtr->kind == IOCP_OP_RECV && opPtr->bufPtr == NULL
	    && !(opPtr->engineFlags & URING_OPF_CANCELED)
	    && IocpRecvRingGrow(&uringPtr->recvRing, &uringPtr->base.counts)
	    && UringSubmit(&uringPtr->base, opPtr) == IOCP_QUEUED) {
	return 0;
    }
    compPtr->opPtr = opPtr;
    compPtr->result = cqePtr->res;
    compPtr->flags = 0;
    compPtr->bufPtr = NULL;
    if (cqePtr->flags & IORING_CQE_F_MORE) {
	compPtr->flags |= IOCP_COMPF_MORE;
    } else {
	if (opPtr->engineFlags & URING_OPF_LISTED) {
	    UringForgetCancel(uringPtr, opPtr);
	}
	opPtr->engineFlags |= URING_OPF_DONE;
    }
    if (cqePtr->flags & IORING_CQE_F_SOCK_NONEMPTY) {
	compPtr->flags |= IOCP_COMPF_MORE_DATA;
    }
    if (cqePtr->flags & IORING_CQE_F_BUFFER) {
	compPtr->bufPtr = IocpRecvRingTake(&uringPtr->recvRing,
		(int)(cqePtr->flags >> IORING_CQE_BUFFER_SHIFT), cqePtr->res);
    }
    return 1;
}

static inline int
UringTaskWork(struct io_uring *ringPtr)
{
    return (IO_URING_READ_ONCE(*ringPtr->sq.kflags)
	    & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static int
UringReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;
    struct io_uring *ringPtr = &uringPtr->ring;
    struct io_uring_cqe *cqePtr;
    unsigned head, seen = 0;
    int count = 0;

    UringRepeat(uringPtr);
    uringPtr->recvRing.credit = 0;
    if (io_uring_sq_ready(ringPtr) > 0 || UringTaskWork(ringPtr)) {
	UringSubmitQueued(uringPtr);
    }

    /*
     * From Linux 6.10 on, one call completes 20 requests at most. What is ready is to be told
     * together: see iocpDefer.c.
     */

    for (int i = 0; i < URING_REAP_MORE && io_uring_cq_ready(ringPtr) < (unsigned)max
	    && UringTaskWork(ringPtr); i++) {
	UringSubmitQueued(uringPtr);
    }
    io_uring_for_each_cqe(ringPtr, head, cqePtr) {
	if (count == max) {
	    break;
	}
	count += UringTranslate(uringPtr, cqePtr, &completions[count]);
	seen++;
    }
    io_uring_cq_advance(ringPtr, seen);
    count += UringAccept(uringPtr, completions + count, max - count);
    for (; count < max && uringPtr->filePtr != NULL; count++) {
	completions[count] = (IocpCompletion){
	    .opPtr = &uringPtr->filePtr->op, .result = uringPtr->filePtr->result
	};
	uringPtr->filePtr = uringPtr->filePtr->linkPtr;
    }
    return count;
}

static int
UringWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;
    struct io_uring *ringPtr = &uringPtr->ring;
    struct io_uring_cqe *cqePtr;
    struct __kernel_timespec timeout = {
	.tv_sec = timeoutNs / IOCP_SECOND, .tv_nsec = timeoutNs % IOCP_SECOND
    };
    int result;

    UringRepeat(uringPtr);
    if (timeoutNs == 0 || io_uring_cq_ready(ringPtr) > 0 || uringPtr->filePtr != NULL
	    || uringPtr->acceptPtr != NULL) {
	return 0;		/* Reaping asks the kernel, if there is anything to ask. */
    }
    IOCP_ADD(uringPtr->base.counts.enters, 1);
    IOCP_ADD(uringPtr->base.counts.waits, 1);
    if (timeoutNs < 0) {
	/*
	 * When it has submitted something, it returns how much, even if a signal ended the wait.
	 */
	result = io_uring_submit_and_wait(ringPtr, 1);
	if (result >= 0 && io_uring_cq_ready(ringPtr) == 0) {
	    result = -EINTR;
	}
    } else {
	uint64_t end = io_uring_sq_ready(ringPtr) > 0 ? IocpNow() + (uint64_t)timeoutNs : 0;

	/*
	 * The same here, but that it says -ETIME.
	 */

	result = io_uring_submit_and_wait_timeout(ringPtr, &cqePtr, 1, &timeout, NULL);
	if (result == -ETIME && end != 0 && io_uring_cq_ready(ringPtr) == 0 && IocpNow() < end) {
	    result = -EINTR;
	}
    }
    if (io_uring_sq_ready(ringPtr) == 0) {
	uringPtr->vecCount = uringPtr->msgCount = 0;
    }
    return result == -EINTR ? -EINTR : 0;
}

/*
 * UringAttend --
 *	One poll for each time that the descriptor is readable: its entry leaves with the wait.
 */
static void
UringAttend(IocpEngine *enginePtr, int fd)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;
    struct io_uring_sqe *sqePtr;

    if (fd < 0) {
	uringPtr->unattend = !UringCancelKey(uringPtr, &uringPtr->attendKey);
	return;
    }
    sqePtr = uringPtr->unattend ? NULL : UringEntry(uringPtr);
    if (sqePtr != NULL) {	/* Otherwise the caller looks by itself, and asks again. */
	io_uring_prep_poll_add(sqePtr, fd, POLLIN);
	io_uring_sqe_set_data(sqePtr, &uringPtr->attendKey);
	enginePtr->attending = 1;
    }
}

static int
UringArm(IocpEngine *enginePtr, int armed)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;

    io_uring_cq_eventfd_toggle(&uringPtr->ring, armed);
    if (!armed) {
	return 0;
    }

    /*
     * The last reap itself may have made entries: nobody else submits them before the wait.
     */

    UringRepeat(uringPtr);
    if (io_uring_sq_ready(&uringPtr->ring) > 0) {
	UringSubmitQueued(uringPtr);
    }

    /*
     * What completed before the kernel saw the flag has not signalled the eventfd. The fence orders
     * the store of the flag before the loads that look for such completions.
     */

    atomic_thread_fence(memory_order_seq_cst);
    return io_uring_cq_ready(&uringPtr->ring) > 0 || UringTaskWork(&uringPtr->ring)
	    || uringPtr->filePtr != NULL || uringPtr->acceptPtr != NULL;
}

static int
UringNotifyFd(IocpEngine *enginePtr)
{
    return ((UringEngine *)enginePtr)->eventFd;
}

static void
UringNotified(IocpEngine *enginePtr)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;
    uint64_t count;

    IOCP_ADD(uringPtr->base.counts.enters, 1);
    if (read(uringPtr->eventFd, &count, sizeof(count)) < 0) {
	/* Nothing was there: another turn has read it. */
    }
}

static void
UringRelease(IocpEngine *enginePtr, IocpBuf *bufPtr)
{
    IocpRecvRingGive(&((UringEngine *)enginePtr)->recvRing, bufPtr);
}

static void
UringForked(IocpEngine *enginePtr)
{
    UringEngine *uringPtr = (UringEngine *)enginePtr;

    close(uringPtr->ring.ring_fd);
    close(uringPtr->eventFd);
    IocpFileJobsClose(&uringPtr->jobs);
}

const IocpEngineType iocpUringEngine = {
    .typeName = "io_uring",
    .version = IOCP_ENGINE_VERSION,
    .probeProc = UringProbe,
    .openProc = UringOpen,
    .closeProc = UringClose,
    .attachProc = UringAttach,
    .detachProc = UringDetach,
    .submitProc = UringSubmit,
    .cancelProc = UringCancel,
    .sendNowProc = IocpSendNow,
    .pushProc = IocpPush,
    .reapProc = UringReap,
    .waitProc = UringWait,
    .attendProc = UringAttend,
    .armProc = UringArm,
    .notifyFdProc = UringNotifyFd,
    .notifiedProc = UringNotified,
    .releaseProc = UringRelease,
    .forkedProc = UringForked
};
