/* `Watch` of edgeticket/watch.py: the same operations on the same doubles in the same order, so the same status for every
 * frame. Its state changes only while the interpreter is held, so that threads need no lock. */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <Python.h>
#include <float.h>
#include <math.h>
#include <numpy/arrayobject.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "sums would be rounded otherwise than numpy's: numpy computes them here"
#endif

enum { DTYPE, SHAPE, NOT_FINITE, RANGE, CONSTANT, STUCK, DRIFT, UNFAMILIAR, OK, STATUSES }; /* as in watch.Status */
enum { SUM, SQUARES, STEPS, CHANGES, MINIMUM, MAXIMUM, KINDS }; /* as in drift.STATISTICS */
enum { AXES = 4, MOST = 1 << 16, MOST_VALUES = 1 << 22, BLOCK = 1 << 12 };

typedef struct {
    PyObject_HEAD
    PyObject *statuses; /* a tuple */
    Py_ssize_t shape[AXES], axes, channels, values, bytes; /* values of a channel, bytes of a value */
    Py_ssize_t kinds, size, means; /* statistics: of a channel, in all */
    int kind; /* of values, as numpy names it by a letter */
    int fresh, drifted; /* fresh: `last` may be followed */
    long long stuck, times;
    double *lower, *upper, *limit, *least, *most, *flat, *low, *high; /* rules, the first of which owns the memory */
    double *up, *down, *last, *found;
} Watch;

/* Integers are summed in blocks whose sums fit 32 bits (squares of int16: 64), in loops that a compiler can vectorise. */
#define WHOLE(NAME, VALUE, PRODUCT)                                                                                            \
    static void NAME(const VALUE *x, Py_ssize_t n, double found[KINDS])                                                        \
    {                                                                                                                          \
        int64_t sum = 0, squares = 0, steps = 0, changes = 0;                                                                  \
        VALUE least = x[0], most = x[0];                                                                                       \
        for (Py_ssize_t at = 0; at < n; at += BLOCK) {                                                                         \
            const VALUE *const own = x + at;                                                                                   \
            const int values = n - at > BLOCK ? BLOCK : (int)(n - at), pairs = n - at > BLOCK ? BLOCK : values - 1;            \
            int32_t own_sum = 0, own_steps = 0, own_changes = 0;                                                               \
            PRODUCT own_squares = 0;                                                                                           \
            for (int i = 0; i < values; i++) {                                                                                 \
                own_sum += own[i];                                                                                             \
                own_squares += (PRODUCT)(own[i] * own[i]);                                                                     \
                least = own[i] < least ? own[i] : least;                                                                       \
                most = own[i] > most ? own[i] : most;                                                                          \
            }                                                                                                                  \
            for (int i = 0; i < pairs; i++) {                                                                                  \
                const int32_t step = own[i + 1] - own[i];                                                                      \
                own_steps += step < 0 ? -step : step;                                                                          \
                own_changes += step != 0;                                                                                      \
            }                                                                                                                  \
            sum += own_sum;                                                                                                    \
            squares += own_squares;                                                                                            \
            steps += own_steps;                                                                                                \
            changes += own_changes;                                                                                            \
        }                                                                                                                      \
        const double all[KINDS] = {(double)sum, (double)squares, (double)steps, (double)changes, least, most};                 \
        memcpy(found, all, sizeof all);                                                                                        \
    }
WHOLE(of_uint8, uint8_t, uint32_t)
WHOLE(of_int16, int16_t, int64_t)

/* Sums of doubles, one value after the other. Squares of floats are exact, so a fused product changes nothing. */
static void of_float(const float *x, Py_ssize_t n, double found[KINDS])
{
    double sum = x[0], squares = (double)x[0] * x[0], steps = 0;
    float least = x[0], most = x[0];
    Py_ssize_t changes = 0;
    for (Py_ssize_t i = 1; i < n; i++) {
        const double now = x[i], step = now - (double)x[i - 1];
        sum += now;
        squares += now * now;
        steps += fabs(step);
        changes += step != 0;
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    const double all[KINDS] = {sum, squares, steps, (double)changes, least, most};
    memcpy(found, all, sizeof all);
}

/* Whether all is finite: the squares of finite floats cannot overflow, and those of others are not finite. */
static int statistics(Watch *self, const char *values)
{
    double *found = self->found;
    for (Py_ssize_t channel = 0; channel < self->channels; channel++, found += self->kinds) {
        double all[KINDS];
        if (self->kind == 'B')
            of_uint8((const uint8_t *)values, self->values, all);
        else if (self->kind == 'h')
            of_int16((const int16_t *)values, self->values, all);
        else
            of_float((const float *)values, self->values, all);
        if (!isfinite(all[SQUARES]))
            return 0;
        memcpy(found, all, (size_t)self->kinds * sizeof *found);
        values += self->values * self->bytes;
    }
    return 1;
}

static int fault(Watch *self)
{
    const double *found = self->found;
    const Py_ssize_t least = self->kinds == 1 ? SUM : MINIMUM, most = self->kinds == 1 ? SUM : MAXIMUM;
    int same = 1;
    for (Py_ssize_t i = 0; i < self->size; i++)
        same &= found[i] == self->last[i];
    self->times = same ? self->times + 1 : 1;
    memcpy(self->last, found, (size_t)self->size * sizeof *found);
    for (Py_ssize_t channel = 0, i = 0; channel < self->channels; channel++, i += self->kinds)
        if (found[i + least] < self->least[channel] || found[i + most] > self->most[channel])
            return RANGE;
    for (Py_ssize_t channel = 0, i = 0; channel < self->channels && self->kinds > 1; channel++, i += self->kinds)
        if (found[i + least] == found[i + most] && self->flat[channel] == 0)
            return CONSTANT;
    return self->stuck > 0 && self->times >= self->stuck ? STUCK : OK;
}

static int familiar(const Watch *self)
{
    int inside = 1;
    for (Py_ssize_t i = 0; i < self->size; i++)
        inside &= self->lower[i] <= self->found[i] && self->found[i] <= self->upper[i];
    return inside ? OK : UNFAMILIAR;
}

static void count(Watch *self, Py_ssize_t row)
{
    const double *low = self->low + row * self->size, *high = self->high + row * self->size;
    for (Py_ssize_t i = 0; i < self->size; i++) {
        const double now = self->last[i], raised = now < self->lower[i] ? self->lower[i] : now;
        const double cut = raised > self->upper[i] ? self->upper[i] : raised;
        const double up = self->up[i] + (cut - high[i]), down = self->down[i] + (low[i] - cut);
        self->up[i] = up > 0 ? up : 0;
        self->down[i] = down > 0 ? down : 0;
        self->drifted |= self->up[i] > self->limit[i] || self->down[i] > self->limit[i];
    }
}

static int fits(const Watch *self, const PyArrayObject *frame)
{
    if (PyArray_DESCR(frame)->type != self->kind || PyArray_ISBYTESWAPPED(frame))
        return DTYPE;
    if (PyArray_NDIM(frame) != self->axes)
        return SHAPE;
    return memcmp(PyArray_DIMS(frame), self->shape, (size_t)self->axes * sizeof *self->shape) ? SHAPE : OK;
}

/* A status, or -1 with an exception. */
static int judge(Watch *self, PyArrayObject *frame)
{
    PyObject *copy = NULL;
    int status = fits(self, frame);
    if (status != OK)
        return status;
    if (!PyArray_ISCARRAY_RO(frame)) {
        if (!(copy = PyArray_FROM_OF((PyObject *)frame, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSUREARRAY)))
            return -1;
        frame = (PyArrayObject *)copy;
    }
    status = statistics(self, PyArray_DATA(frame)) ? fault(self) : NOT_FINITE;
    Py_XDECREF(copy);
    self->fresh = status == OK;
    return status == OK ? familiar(self) : status;
}

static PyObject *check(PyObject *own, PyObject *frame)
{
    Watch *self = (Watch *)own;
    self->fresh = 0;
    const int status = PyArray_Check(frame) ? judge(self, (PyArrayObject *)frame) : DTYPE;
    return status < 0 ? NULL : Py_NewRef(PyTuple_GetItem(self->statuses, status));
}

static PyObject *follow(PyObject *own, PyObject *number)
{
    Watch *self = (Watch *)own;
    const Py_ssize_t answer = PyNumber_AsSsize_t(number, NULL); /* cut off where it is too large for any answer */
    if (answer == -1 && PyErr_Occurred())
        return NULL;
    if (self->fresh)
        count(self, 0 <= answer && answer < self->means ? answer : self->means - 1);
    self->fresh = 0;
    return PyBool_FromLong(self->drifted);
}

static PyObject *reset(PyObject *own, PyObject *nothing)
{
    Watch *self = (Watch *)own;
    (void)nothing;
    memset(self->up, 0, (size_t)(2 * self->size) * sizeof *self->up); /* and down */
    self->times = self->fresh = self->drifted = 0;
    Py_RETURN_NONE;
}

/* 0, or -1 with an exception. */
static int set_shape(Watch *self, PyObject *tuple)
{
    Py_ssize_t *const shape = self->shape;
    if (!PyArg_ParseTuple(tuple, "n|nnn", shape, shape + 1, shape + 2, shape + 3))
        return -1;
    self->axes = PyTuple_Size(tuple);
    self->channels = shape[0];
    self->values = 1;
    int right = shape[0] >= 1 && shape[0] <= MOST;
    for (Py_ssize_t i = 1; right && i < self->axes; i++) {
        right = shape[i] >= 1 && shape[i] <= MOST_VALUES / self->values;
        self->values *= right ? shape[i] : 1;
    }
    self->kinds = self->values > 1 ? KINDS : 1;
    self->size = right ? self->channels * self->kinds : 0;
    if (1 <= self->size && self->size <= MOST)
        return 0;
    PyErr_SetString(PyExc_ValueError, "no frames of such a shape are watched");
    return -1;
}

static int set_rules(Watch *self, const Py_buffer *numbers)
{
    const size_t size = (size_t)self->size, channels = (size_t)self->channels, common = 3 * size + 3 * channels;
    const size_t rules = (size_t)numbers->len / sizeof(double), means = rules > common ? (rules - common) / (2 * size) : 0;
    if (means < 1 || (size_t)numbers->len != (common + 2 * means * size) * sizeof(double)) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of rules are none", numbers->len);
        return -1;
    }
    self->means = (Py_ssize_t)means;
    if (!(self->lower = PyMem_Calloc(rules + 4 * size, sizeof(double))))
        return PyErr_NoMemory(), -1;
    memcpy(self->lower, numbers->buf, (size_t)numbers->len);
    double **const own[] = {&self->upper, &self->limit, &self->least, &self->most, &self->flat, &self->low,
                            &self->high,  &self->up,    &self->down,  &self->last, &self->found};
    const size_t edges = means * size, sizes[] = {size, size, size, channels, channels, channels, edges, edges, size, size, size};
    double *at = self->lower;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        *own[i] = at += sizes[i];
    return 0;
}

static PyObject *new(PyTypeObject *type, PyObject *arguments, PyObject *words)
{
    PyObject *statuses, *shape;
    int kind;
    long long stuck;
    Py_buffer numbers;
    (void)words;
    if (!PyArg_ParseTuple(arguments, "O!O!CLy*", &PyTuple_Type, &statuses, &PyTuple_Type, &shape, &kind, &stuck, &numbers))
        return NULL;
    Watch *self = NULL;
    const Py_ssize_t bytes = kind == 'B' ? 1 : kind == 'h' ? 2 : kind == 'f' ? 4 : 0;
    if (!bytes || PyTuple_Size(statuses) != STATUSES)
        PyErr_SetString(PyExc_ValueError, "no such values are watched, or not with such statuses");
    else if ((self = (Watch *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0))) {
        self->statuses = Py_NewRef(statuses);
        self->kind = kind;
        self->bytes = bytes;
        self->stuck = stuck;
        if (set_shape(self, shape) || set_rules(self, &numbers))
            Py_CLEAR(self);
    }
    PyBuffer_Release(&numbers);
    return (PyObject *)self;
}

static void dealloc(PyObject *own)
{
    Watch *self = (Watch *)own;
    PyTypeObject *type = Py_TYPE(own);
    Py_XDECREF(self->statuses);
    PyMem_Free(self->lower);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(own);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"check", check, METH_O, "A fault, UNFAMILIAR or OK: the next frame."},
    {"follow", follow, METH_O, "Whether frames have drifted, the last that was checked among them, with its answer."},
    {"reset", reset, METH_NOARGS, "Forget the frames before."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {{Py_tp_new, new}, {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {0, NULL}};

static PyType_Spec spec = {"edgeticket._watch.Watch", sizeof(Watch), 0, Py_TPFLAGS_DEFAULT, slots};

static int execute(PyObject *module)
{
    import_array1(-1);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    const int failed = !type || PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot parts[] = {{Py_mod_exec, execute}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_watch", NULL, 0, NULL, parts, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__watch(void)
{
    return PyModuleDef_Init(&definition);
}
