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
    recvRingPtr->bundles = HasBundles(uringPtr);
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
IocpRecvRingPrep(IocpRecvRing *recvRingPtr, struct io_uring_sqe *sqePtr, int more)
{
    sqePtr->flags |= IOSQE_BUFFER_SELECT;
    sqePtr->buf_group = BUF_GROUP;
    if (more && recvRingPtr->bundles) {
	/*
	 * One byte more, for which the kernel takes no buffer: what fills all that it wants it
	 * would follow by all that the socket has.
	 */

	sqePtr->ioprio |= RECV_BUNDLE;
	sqePtr->len = BUNDLE * IOCP_POOL_BUFSIZE + 1;
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
