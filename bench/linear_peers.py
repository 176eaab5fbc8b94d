"""What bench/linear.sh times of torch and scikit-learn, in the way that bench/linear.c times ours: lists of nanoseconds, a line each.

    linear_peers.py predict torch|sklearn ROUNDS AT_ONCE    a 784 -> 2 prediction, after 100 rounds that do not count
    linear_peers.py fit RAW COLUMNS TOL THREADS ROUNDS      LogisticRegression of scikit-learn on a matrix in memory
    linear_peers.py once torch|sklearn fit CSV STEPS        a whole process: a table is read and learned from
    linear_peers.py once torch|sklearn predict MODEL CSV    a whole process: one row is read and answered; of the model, a SafeTensors, what
                                                            it ends with is taken: 784 -> 2
"""
import contextlib
import sys
import time

import numpy as np

INPUTS, OUTPUTS, WARM_UP = 784, 2, 100


def rounds_of(work, rounds, at_once=1, warm_up=WARM_UP):
    taken = []
    for i in range(warm_up + rounds):
        begin = time.perf_counter_ns()
        for _ in range(at_once):
            work()
        taken.append((time.perf_counter_ns() - begin) / at_once)
    print("\n".join(f"{t:.2f}" for t in taken[warm_up:]))


def made_up_weights():
    r = np.random.default_rng(1)
    return r.uniform(-1, 1, (OUTPUTS, INPUTS)).astype("f4"), np.zeros(OUTPUTS, "f4")


def torch_answer(weight, bias):
    """The layer alone, on one thread; without autograd, and without a class chosen."""
    import torch
    torch.set_num_threads(1)
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer, lambda rows: torch.from_numpy(rows.astype("f4")), torch.inference_mode()


def sklearn_answer(weight, bias):
    """Two classes of scikit-learn have one output: the difference of ours."""
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression()
    model.coef_, model.intercept_ = (weight[1:] - weight[:1]).astype("f8"), (bias[1:] - bias[:1]).astype("f8")
    model.classes_ = np.arange(OUTPUTS)
    return model.predict, lambda rows: rows, contextlib.nullcontext()


PEERS = {"torch": torch_answer, "sklearn": sklearn_answer}


def predict(peer, rounds, at_once):
    answer, as_input, mode = PEERS[peer](*made_up_weights())
    x = as_input(np.random.default_rng(2).uniform(-1, 1, (1, INPUTS)))
    with mode:
        rounds_of(lambda: answer(x), int(rounds), int(at_once))


def fit(raw, columns, tol, threads, rounds):
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits
    rows = np.fromfile(raw).reshape(-1, int(columns) + 1)
    x, y = np.ascontiguousarray(rows[:, :-1]), rows[:, -1]
    model = LogisticRegression(C=np.inf, tol=float(tol), max_iter=1000)
    with threadpool_limits(int(threads)):
        rounds_of(lambda: model.fit(x, y), int(rounds), warm_up=1)
    wrong = 1 / (1 + np.exp(-model.decision_function(x))) - y
    gradient = max(np.abs(x.T @ wrong).max(), abs(wrong.sum())) / len(y)
    print(f"scikit-learn at tol {tol}: {model.n_iter_[0]} iterations, gradient {gradient:.1e}", file=sys.stderr)


def once_torch_fit(path, steps):
    import torch
    rows = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=1, dtype="f4"))
    x, y = rows[:, :-1], rows[:, -1:]
    layer, loss = torch.nn.Linear(x.shape[1], 1), torch.nn.BCEWithLogitsLoss()
    descent = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(int(steps)):
        descent.zero_grad()
        loss(layer(x), y).backward()
        descent.step()


def once_sklearn_fit(path, steps):
    from sklearn.linear_model import LogisticRegression
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    LogisticRegression(C=np.inf, max_iter=int(steps)).fit(rows[:, :-1], rows[:, -1])


def once_predict(peer, path, rows):
    stored = np.fromfile(path, "u1")[-4 * OUTPUTS * (INPUTS + 1):].view("<f4")
    answer, as_input, mode = PEERS[peer](stored[:-OUTPUTS].reshape(OUTPUTS, INPUTS), stored[-OUTPUTS:])
    with mode:
        print(answer(as_input(np.loadtxt(rows, delimiter=",", ndmin=2))))


if sys.argv[1] == "once":
    peer, what, *rest = sys.argv[2:]
    once_predict(peer, *rest) if what == "predict" else globals()[f"once_{peer}_fit"](*rest)
else:
    {"predict": predict, "fit": fit}[sys.argv[1]](*sys.argv[2:])
