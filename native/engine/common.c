/*
 * common.c --
 *	What the engines share: the chunks of receive buffers, the vectors made from chains of
 *	buffers, the sending of what the kernel takes at once.
 */

#include "engine.h"

/*
 * IocpPoolGrow --
 *	Add a chunk.
 * Results:
 *	The first of IOCP_POOL_CHUNK new buffers, contiguous in memory and in their ids; NULL when
 *	the pool has reached its limit or memory is short.
 */
IocpBuf *
IocpPoolGrow(IocpPool *poolPtr)
{
    IocpBuf *bufs;
    char *memory;
    int chunk = poolPtr->chunkCount;

    if (chunk == IOCP_POOL_CHUNKS_MAX) {
	return NULL;
    }
    bufs = calloc(IOCP_POOL_CHUNK, sizeof(IocpBuf));
    memory = malloc((size_t)IOCP_POOL_CHUNK * IOCP_POOL_BUFSIZE);
    if (bufs == NULL || memory == NULL) {
	free(bufs);
	free(memory);
	return NULL;
    }
    for (int i = 0; i < IOCP_POOL_CHUNK; i++) {
	bufs[i].data = memory + (size_t)i * IOCP_POOL_BUFSIZE;
	bufs[i].size = IOCP_POOL_BUFSIZE;
	bufs[i].poolId = chunk * IOCP_POOL_CHUNK + i;
    }
    poolPtr->chunks[chunk] = bufs;
    poolPtr->memory[chunk] = memory;
    poolPtr->chunkCount++;
    return bufs;
}

IocpBuf *
IocpPoolGet(IocpPool *poolPtr, int poolId)
{
    return &poolPtr->chunks[poolId / IOCP_POOL_CHUNK][poolId % IOCP_POOL_CHUNK];
}

void
IocpPoolFree(IocpPool *poolPtr)
{
    for (int i = 0; i < poolPtr->chunkCount; i++) {
	free(poolPtr->chunks[i]);
	free(poolPtr->memory[i]);
    }
    poolPtr->chunkCount = 0;
}

/*
 * IocpFillVecs --
 *	Describe an op's buffers: the room in them for a receive, the bytes in them otherwise.
 * Results:
 *	How many vectors were filled.
 */
int
IocpFillVecs(IocpVec *vecs, int max, const IocpOp *opPtr)
{
    const IocpBuf *bufPtr = opPtr->bufPtr;
    int count = opPtr->bufCount < max ? opPtr->bufCount : max;

    for (int i = 0; i < count; i++) {
	if (i > 0) {
	    bufPtr = bufPtr->nextPtr;	/* Not that of the last one: see contract 2. */
	}
	IocpVecSet(&vecs[i], bufPtr->data + bufPtr->start,
		(opPtr->kind == IOCP_OP_RECV ? bufPtr->size : bufPtr->end) - bufPtr->start);
    }
    return count;
}

int
IocpPush(IocpHandle *handlePtr, const char *data, size_t size)
{
    return IocpSocketSendNow(handlePtr->fd, data, size);
}

int
IocpSendNow(IocpEngine *enginePtr, IocpHandle *handlePtr, const char *data, size_t size)
{
    IOCP_ADD(enginePtr->counts.enters, 1);
    return IocpPush(handlePtr, data, size);
}
