/*
 * recvring.c --
 *	See recvring.h.
 */

#include "recvring.h"

#define BUF_GROUP 0
#define BUNDLE 8		/* So many buffers a receive takes at most. */

/* liburing 2.3 does not know these. */
#define RECV_BUNDLE (1U << 4)	/* IORING_RECVSEND_BUNDLE, Linux 6.10 */
#define OP_PIPE 62		/* IORING_OP_PIPE, Linux 6.16 */
#define optlen file_index	/* In struct io_uring_sqe, Linux 6.17 */

/* What the kernel can; set by IocpRecvRingProbe, before any engine is opened. */
static _Atomic int bundles = 0;
static _Atomic int repeats = -1;	/* Not known. */

/*
 * HasBundles --
 *	Whether receives may take several buffers. Before Linux 6.16 there can be gaps and
 *	repetitions in what they hand out; no flag tells, but an operation that came with it.
 */
static int
HasBundles(struct io_uring *uringPtr)
{
    struct io_uring_probe *probePtr = io_uring_get_probe_ring(uringPtr);
    int result = probePtr != NULL && io_uring_opcode_supported(probePtr, OP_PIPE);

    io_uring_free_probe(probePtr);
    return result;
}

static void
PrepRepeat(struct io_uring_sqe *sqePtr)
{
    sqePtr->ioprio |= IORING_RECV_MULTISHOT;
    sqePtr->optlen = IOCP_REPEAT_MAX;
}

/*
 * Shots --
 *	Let a receive that goes on wait for a byte and the end, both of which are there before the
 *	kernel looks: it finds two wake-ups at once.
 * Results:
 *	How many results there are, until the end of the data: 2. Or 0 for an error, which it is
 *	to older kernels.
 */
static int
Shots(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr, const int *fds)
{
    static char bytes[2];
    int mask = io_uring_buf_ring_mask(recvRingPtr->entries);
    struct io_uring_sqe *sqePtr = io_uring_get_sqe(uringPtr);
    struct io_uring_cqe *cqePtr;
    int count = 0, ended = 0;

    io_uring_buf_ring_add(recvRingPtr->ringPtr, &bytes[0], 1, 0, mask, 0);
    io_uring_buf_ring_add(recvRingPtr->ringPtr, &bytes[1], 1, 1, mask, 1);
    io_uring_buf_ring_advance(recvRingPtr->ringPtr, 2);
    io_uring_prep_recv(sqePtr, fds[0], NULL, 0, 0);
    sqePtr->ioprio |= IORING_RECVSEND_POLL_FIRST;
    IocpRecvRingPrep(sqePtr, IOCP_OPF_EXPECT_WAIT);
    PrepRepeat(sqePtr);
    if (io_uring_submit(uringPtr) != 1 || send(fds[1], "", 1, MSG_NOSIGNAL) != 1
	    || shutdown(fds[1], SHUT_RDWR) < 0) {
	return 0;
    }
    io_uring_get_events(uringPtr);
    for (; !ended && io_uring_peek_cqe(uringPtr, &cqePtr) == 0; count++) {
	if (cqePtr->res < 0) {
	    return 0;
	}
	ended = cqePtr->res == 0;
	io_uring_cqe_seen(uringPtr, cqePtr);
    }
    return ended ? count : 0;
}

/*
 * HasRepeats --
 *	Whether receives may go on, which is found out by trial. In Linux 6.17 and later, a socket
 *	pair says after a receive what is left, as TCP does, so that the kernel takes the same way.
 * Results:
 *	-1 when there is no pair to be had now.
 */
static int
HasRepeats(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr)
{
    int fds[2], result;

    if (!(uringPtr->flags & IORING_SETUP_DEFER_TASKRUN)) {
	return 0;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
	return -1;
    }
    result = Shots(recvRingPtr, uringPtr, fds) == 2;
    close(fds[0]);
    close(fds[1]);
    return result;
}

void
IocpRecvRingProbe(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr)
{
    if (repeats < 0) {
	bundles = HasBundles(uringPtr);
	repeats = HasRepeats(recvRingPtr, uringPtr);
    }
}

int
IocpRecvRingOpen(IocpRecvRing *recvRingPtr, struct io_uring *uringPtr, unsigned entries)
{
    struct io_uring_buf_reg reg = {.ring_entries = entries, .bgid = BUF_GROUP};
    void *memory;
    int result;

    if (posix_memalign(&memory, 4096, entries * sizeof(struct io_uring_buf)) != 0) {
	return -ENOMEM;
    }
    memset(memory, 0, entries * sizeof(struct io_uring_buf));
    reg.ring_addr = (uint64_t)(uintptr_t)memory;
    result = io_uring_register_buf_ring(uringPtr, &reg, 0);
    if (result < 0) {
	free(memory);
	return result;
    }
    recvRingPtr->ringPtr = memory;
    recvRingPtr->entries = entries;
    io_uring_buf_ring_init(recvRingPtr->ringPtr);
    return 0;
}

void
IocpRecvRingFree(IocpRecvRing *recvRingPtr)
{
    free(recvRingPtr->ringPtr);
    IocpPoolFree(&recvRingPtr->pool);
}

/*
 * Provide --
 *	Put count buffers with consecutive ids, from bufPtr on, at the kernel's disposal.
 */
static void
Provide(IocpRecvRing *recvRingPtr, IocpBuf *bufPtr, int count)
{
    int mask = io_uring_buf_ring_mask(recvRingPtr->entries);

    for (int i = 0; i < count; i++) {
	if (recvRingPtr->lastPtr != NULL) {
	    recvRingPtr->lastPtr->nextPtr = &bufPtr[i];
	}
	recvRingPtr->lastPtr = &bufPtr[i];
	io_uring_buf_ring_add(recvRingPtr->ringPtr, bufPtr[i].data, (unsigned)bufPtr[i].size,
		(unsigned short)bufPtr[i].poolId, mask, i);
    }
    io_uring_buf_ring_advance(recvRingPtr->ringPtr, count);
}

int
IocpRecvRingGrow(IocpRecvRing *recvRingPtr, IocpEngineCounts *countsPtr)
{
    IocpBuf *bufPtr;

    if (recvRingPtr->credit > 0) {
	recvRingPtr->credit--;
	return 1;
    }
    bufPtr = IocpPoolGrow(&recvRingPtr->pool);
    if (bufPtr == NULL) {
	return 0;
    }
    recvRingPtr->credit = IOCP_POOL_CHUNK - 1;
    Provide(recvRingPtr, bufPtr, IOCP_POOL_CHUNK);
    IOCP_ADD(countsPtr->poolBytes, (uint64_t)IOCP_POOL_CHUNK * IOCP_POOL_BUFSIZE);
    return 1;
}

void
IocpRecvRingGive(IocpRecvRing *recvRingPtr, IocpBuf *bufPtr)
{
    Provide(recvRingPtr, bufPtr, 1);
}

void
IocpRecvRingPrep(struct io_uring_sqe *sqePtr, unsigned flags)
{
    sqePtr->flags |= IOSQE_BUFFER_SELECT;
    sqePtr->buf_group = BUF_GROUP;
    if (!(flags & IOCP_OPF_EXPECT_WAIT) && bundles) {
	/*
	 * One byte more, for which the kernel takes no buffer: what fills all that it wants it
	 * would follow by all that the socket has.
	 */

	sqePtr->ioprio |= RECV_BUNDLE;
	sqePtr->len = BUNDLE * IOCP_POOL_BUFSIZE + 1;
    } else if ((flags & IOCP_OPF_REPEAT) && repeats > 0) {
	PrepRepeat(sqePtr);
    }
}

IocpBuf *
IocpRecvRingTake(IocpRecvRing *recvRingPtr, int poolId, int size)
{
    IocpBuf *firstPtr = IocpPoolGet(&recvRingPtr->pool, poolId);
    IocpBuf *bufPtr = firstPtr;

    for (; size > IOCP_POOL_BUFSIZE; size -= IOCP_POOL_BUFSIZE) {
	bufPtr = bufPtr->nextPtr;
    }
    if (bufPtr == recvRingPtr->lastPtr) {
	recvRingPtr->lastPtr = NULL;
    }
    bufPtr->nextPtr = NULL;
    return firstPtr;
}
