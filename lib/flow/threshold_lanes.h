/* Counting in vectors of WIDTH scores, for lib/flow/threshold_count.c; NAME(x) is x of that width, LEVEL what a function has that may use
 * such vectors. */
typedef float    NAME(floats) __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t NAME(words) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t  NAME(ints) __attribute__((vector_size(4 * WIDTH)));

/* Bit i: lane i of a mask. */
APR_INLINED unsigned NAME(lanes_in)(const NAME(ints) *mask)
{
    NAME(words) bits;
    for (unsigned i = 0; i < WIDTH; i++)
        bits[i] = 1u << i;
    bits &= (NAME(words))*mask;
    uint64_t pair[WIDTH / 2], any = 0;
    memcpy(pair, &bits, sizeof pair);
    for (unsigned i = 0; i < WIDTH / 2; i++)
        any |= pair[i];
    return (unsigned)(any | any >> 32) & ((1u << WIDTH) - 1);
}

LEVEL static void NAME(count_keys)(const float *score, size_t n, const struct apr_probe *p, uint32_t *bucket, struct apr_counted *into)
{
    const struct apr_probe probe = *p;
    NAME(ints) below = { 0 }, equals = { 0 }, nan = { 0 };
    size_t at = 0;
    for (; at + WIDTH <= n; at += WIDTH) {
        NAME(floats) x;
        memcpy(&x, score + at, sizeof x);
        nan |= x != x;
        x += 0.0f; /* as apr_score_key: minus zero becomes zero, bits turn below it */
        const NAME(ints) sign = (NAME(ints))x >> 31;
        const NAME(words) key = (NAME(words))((NAME(ints))x ^ (sign | INT32_MIN));
        below -= key < probe.low;
        const NAME(ints) same = key == probe.key, inside = (key - probe.low <= probe.width) & ~same;
        equals -= same;
        for (unsigned left = probe.width == 0 ? 0 : NAME(lanes_in)(&inside); left != 0; left &= left - 1) /* few are */
            bucket[(apr_score_key(score[at + (unsigned)__builtin_ctz(left)]) - probe.low) >> probe.shift]++;
    }
    *into = (struct apr_counted){ 0 };
    for (unsigned i = 0; i < WIDTH; i++) {
        into->below += (uint32_t)below[i];
        into->equals += (uint32_t)equals[i];
        into->nan |= nan[i] != 0;
    }
    for (; at < n; at++)
        count_one(score[at], &probe, bucket, into);
}
