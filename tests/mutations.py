"""Make mistakes on purpose, one at a time, and count how many of them the tests find.

python tests/mutations.py [words]     # only mutations whose description has all the words

Each is a mistake that made certificates false in published code, or could. A survivor ends the script with exit code 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
STATISTICS = " ".join(
    f"tests/guarantee/test_{name}.py"
    for name in ("certificate", "tau", "tails", "boundaries", "plans", "fixed", "sequential", "pilot", "exact")
)
SAMPLING = "tests/images/test_noise.py tests/certification/test_queue.py tests/certification/test_smoothing.py"
SAMPLING += " tests/guarantee/test_guarantee.py"
EVIDENCE = " ".join(f"tests/evidence/test_{name}.py" for name in ("consistency", "comparisons", "accuracy"))
HALVING = "tests/certification/test_batches.py"
AUDIT, TEXT = "tests/guarantee/test_audit.py", "tests/guarantee/test_interchange.py"
COMPOSITE = "tests/guarantee/test_composite.py"
HOSTILE = "tests/test_hostile.py tests/models/test_difference.py"

# what it is, file, before, after, the tests that are asked first
LATTICE, FUNCTION = "tests/images/test_lattice.py", "tests/certification/test_function.py"
ATTACKS = "tests/guarantee/test_attacks.py"

MUTATIONS = [
    (
        "alpha four times as large",
        "guarantee/certificate",
        "        share = alpha\n",
        "        share = 4 * alpha\n",
        STATISTICS,
    ),
    (
        "alpha halved, as two-sided intervals do",
        "guarantee/certificate",
        "share = alpha\n",
        "share = alpha / 2\n",
        STATISTICS,
    ),
    (
        "runner-up at full alpha",
        "guarantee/certificate",
        "        share = alpha / 2\n",
        "        share = alpha\n",
        STATISTICS,
    ),
    (
        "Clopper-Pearson of one vote too many",
        "guarantee/bounds",
        "return _widen(start, 0.0, lambda p: bool(betainc(count, n - count + 1, p) <= spent))",
        "return float(betaincinv(count + 1, n - count, spent))",
        STATISTICS,
    ),
    (
        "a lower bound that is not widened",
        "guarantee/bounds",
        "return _widen(start, 0.0, lambda p: bool(betainc(count, n - count + 1, p) <= spent))",
        "return start",
        STATISTICS,
    ),
    (
        "a lower bound held to the tail of one vote more",
        "guarantee/bounds",
        "betainc(count, n - count + 1, p) <= spent",
        "betainc(count + 1, n - count, p) <= spent",
        STATISTICS,
    ),
    (
        "an upper bound that is not widened",
        "guarantee/bounds",
        "return _widen(start, 1.0, lambda p: bool(betaincc(count + 1, n - count, p) <= spent))",
        "return start",
        STATISTICS,
    ),
    (
        "the upper bound from the failures' lower bound, rounded",
        "guarantee/bounds",
        "    # Not 1 - the lower bound of the failures: near 1 a lower bound has too few digits for that.\n",
        "    return 1.0 - lower_confidence_bound(n - count, n, alpha)\n",
        STATISTICS,
    ),
    (
        "no margin for the tail's own error",
        "guarantee/bounds",
        "_TAIL_ERROR = 1e-12",
        "_TAIL_ERROR = 0.0",
        STATISTICS,
    ),
    (
        "a bound widened once only",
        "guarantee/bounds",
        "while good != end and not",
        "if good != end and not",
        STATISTICS,
    ),
    (
        "1 - p_lower rounded down",
        "guarantee/certificate",
        "return rest if 1.0 - rest <= p else math.nextafter(rest, 2.0)",
        "return rest",
        STATISTICS,
    ),
    (
        "tau forgotten in p_lower",
        "guarantee/certificate",
        "p_lower = lower_by(lower_confidence_bound(count, n, share), tau)\n        p_upper = _complement",
        "p_lower = lower_confidence_bound(count, n, share)\n        p_upper = _complement",
        STATISTICS,
    ),
    (
        "tau forgotten in p_lower beside a runner-up",
        "guarantee/certificate",
        "p_lower = lower_by(lower_confidence_bound(count, n, share), tau)\n        others",
        "p_lower = lower_confidence_bound(count, n, share)\n        others",
        STATISTICS,
    ),
    ("tau forgotten in p_upper", "guarantee/certificate", "raise_by(rival, tau)", "rival", STATISTICS),
    (
        "tau with the wrong sign in p_lower",
        "guarantee/bounds",
        "nextafter(p - tau, -1.0)",
        "nextafter(p + tau, -1.0)",
        STATISTICS,
    ),
    (
        "tau with the wrong sign in nulls",
        "guarantee/bounds",
        "nextafter(p + tau, 2.0)",
        "nextafter(p - tau, 2.0)",
        STATISTICS,
    ),
    (
        "tau taken off, rounded up",
        "guarantee/bounds",
        "nextafter(p - tau, -1.0)",
        "nextafter(p - tau, 1.0)",
        STATISTICS,
    ),
    ("tau forgotten in the certificate", "guarantee/certificate", "        tau=tau,\n", "", STATISTICS),
    (
        "tau forgotten in predictions",
        "guarantee/prediction",
        "share = votes.size * tau\n",
        "share = 0.0\n",
        STATISTICS,
    ),
    (
        "tau of predictions not shared among two classes",
        "guarantee/prediction",
        "share = votes.size * tau\n",
        "share = tau\n",
        STATISTICS,
    ),
    ("predictions at one tail", "guarantee/prediction", "2 * binom.sf(first", "binom.sf(first", STATISTICS),
    ("tau forgotten in the fixed plan", "guarantee/fixed", "self.bound, tau)", "self.bound)", STATISTICS),
    ("tau forgotten in the radius plan", "guarantee/pilot", "self.alpha, tau=tau)", "self.alpha)", STATISTICS),
    (
        "tau forgotten in the grid's null",
        "guarantee/sequential",
        "raise_by(float(ndtr(self.radii[i] / sigma)), tau)",
        "float(ndtr(self.radii[i] / sigma))",
        STATISTICS,
    ),
    (
        "tau forgotten by the grid's course",
        "guarantee/sequential",
        "enumerate(self.boundaries(sigma, tau))",
        "enumerate(self.boundaries(sigma))",
        STATISTICS,
    ),
    (
        "radius 0 at the null 1/2 without tau",
        "guarantee/boundaries",
        "return stray_probability(looks, counts, p) <= alpha * _BOTTOM",
        "return stray_probability(looks, counts) <= alpha * _BOTTOM",
        STATISTICS,
    ),
    ("radius 0 with tau takes all of alpha", "guarantee/boundaries", "0.5 + 1e-6", "0.5", STATISTICS),
    (
        "an acceptance count where the inverse left it",
        "guarantee/boundaries",
        "    if wrong.any():\n",
        "    if False:\n",
        STATISTICS,
    ),
    (
        "class from the estimation votes",
        "guarantee/certificate",
        "int(guess.argmax())",
        "int(votes.argmax())",
        STATISTICS,
    ),
    (
        "radius rounded up",
        "guarantee/certificate",
        "radius - _ROUND_OFF * max(1.0, sigma), 0.0",
        "radius, math.inf",
        STATISTICS,
    ),
    ("radius without its half", "guarantee/certificate", "radius = sigma / 2 *", "radius = sigma *", STATISTICS),
    (
        "sigma squared in the radius",
        "guarantee/certificate",
        "radius = sigma / 2 *",
        "radius = sigma**2 / 2 *",
        STATISTICS,
    ),
    (
        "selection votes counted again",
        "guarantee/fixed",
        "certify_counts(selected, counted, sigma, self.alpha, self.bound, tau)",
        "certify_counts(selected, counted + selected, sigma, self.alpha, self.bound, tau)",
        STATISTICS,
    ),
    (
        "pilot votes counted again",
        "guarantee/pilot",
        "certify_counts(selected, counted, sigma, self.alpha, tau=tau), plan",
        "certify_counts(selected, counted + selected, sigma, self.alpha, tau=tau), plan",
        STATISTICS,
    ),
    (
        "one vote fewer accepts",
        "guarantee/sequential",
        "count >= level.accept[k]",
        "count >= level.accept[k] - 1",
        STATISTICS,
    ),
    (
        "radii in 0..255 units",
        "guarantee/sequential",
        "ndtr(self.radii[i] / sigma)",
        "ndtr(self.radii[i] / sigma / 255)",
        STATISTICS,
    ),
    ("gaps in the grid", "guarantee/sequential", "if i != (0 if last is None else last + 1) or", "if", STATISTICS),
    ("two classes in one certificate", "guarantee/sequential", " or won[i] != won[0]", "", STATISTICS),
    (
        "p_lower of the grid's top",
        "guarantee/sequential",
        "self.radii[reached] / sigma",
        "self.radii[-1] / sigma",
        STATISTICS,
    ),
    (
        "looks before the last cost nothing",
        "guarantee/boundaries",
        "crossed += float(law[stop:].sum())",
        "crossed = float(law[stop:].sum())",
        STATISTICS,
    ),
    ("crossed walks walk on", "guarantee/boundaries", "law, before = law[:stop], look", "before = look", STATISTICS),
    (
        "other classes cost nothing",
        "guarantee/boundaries",
        "error(counts) + max(stray, reserve)",
        "error(counts)",
        STATISTICS,
    ),
    ("radius 0 takes all of alpha", "guarantee/boundaries", "_HALF = 0.05,", "_HALF = 1.0,", STATISTICS),
    (
        "levels of the null at one half",
        "guarantee/boundaries",
        "looks, p, levels)",
        "looks, 0.5 + 0 * p, levels)",
        STATISTICS,
    ),
    ("half of alpha at each look", "guarantee/boundaries", "0.5 / max(1, len(looks) - 1)", "0.5", STATISTICS),
    (
        "no slack, and alpha overspent",
        "guarantee/boundaries",
        "<= alpha * (1 - SLACK)",
        "<= alpha * (1 + SLACK)",
        STATISTICS,
    ),
    ("a look before its samples are there", "certification/queue", ".counted == look.upto", ".counted > 0", SAMPLING),
    (
        "only the last chunk's votes",
        "certification/queue",
        "stream.votes + votes",
        "0 * stream.votes + votes",
        SAMPLING,
    ),
    ("the first samples of a block again", "certification/queue", "first = self.start % BLOCK", "first = 0", SAMPLING),
    ("sigma squared in the noise", "images/laws", "alpha=self.scale, out", "alpha=self.scale**2, out", SAMPLING),
    (
        "sigma squared in the levels",
        "images/lattice",
        "LEVELS * mpmath.mpf(sigma)",
        "LEVELS * mpmath.mpf(sigma) ** 2",
        LATTICE,
    ),
    (
        "noise after normalisation",
        "certification/copies",
        "noise.add(chunk.job.image, drawn, out=batch[filled:end])",
        "noise.add(chunk.job.image, drawn * 0.225, out=batch[filled:end])",
        SAMPLING,
    ),
    ("noisy pixels clipped", "certification/copies", "batch[filled:] = 0", "batch.clamp_(0, 1)", SAMPLING),
    (
        "padding votes",
        "certification/copies",
        "torch.arange(rows)",
        "torch.arange(rows).clamp(max=rows - 3)",
        SAMPLING,
    ),
    ("votes of a part counted again", "certification/batches", "part[rows - start :]", "part", HALVING),
    (
        "a part that failed left out",
        "certification/batches",
        "                continue\n",
        "                rows += size\n                continue\n",
        HALVING,
    ),
    ("training mode", "models/modes", "model.eval()", "model.train()", SAMPLING),
    ("mode not restored", "models/modes", "module.training = True", "pass", SAMPLING),
    ("NaN votes", "certification/copies", "votes[-classes] = logits[:filled].isnan().any()", "pass", SAMPLING),
    ("every image the same noise", "images/noise", "|{int(index)}|", "|0|", SAMPLING),
    ("every block the same noise", "images/noise", "|{int(k)}", "|0", SAMPLING),
    ("selection and estimation share noise", "images/noise", "|{purpose}", "|", SAMPLING),
    ("seed ignored", "images/noise", "|{int(seed)}|", "|0|", SAMPLING),
    (
        "noise of eight bits",
        "images/laws",
        "standard_normal(tuple(shape), dtype=np.float32))",
        "standard_normal(tuple(shape), dtype=np.float32)).bfloat16().float()",
        SAMPLING,
    ),
    (
        "an address as an architecture",
        "models/bounds",
        r'[A-Za-z0-9_]{1,100}", name)',
        r'[A-Za-z0-9_:/-]{1,100}", name)',
        HOSTILE,
    ),
    ("arguments of any name", "models/bounds", "if name in _ELSEWHERE or", "if", HOSTILE),
    ("a network beyond its weights", "models/sketch", "if left < 0:", "if False:", HOSTILE),
    ("a difference inflated to its end", "models/difference", "take(promised, rest)", "take(most, rest)", HOSTILE),
    (
        "a name that leads out of its shelf",
        "models/shelves",
        "[A-Za-z0-9._-]{0,126}",
        "[A-Za-z0-9._/-]{0,126}",
        HOSTILE,
    ),
    (
        "a link that leads out of its folder",
        "files",
        "if not any(real.is_relative_to(place) for place in own):",
        "if False:",
        HOSTILE,
    ),
    ("mixture of squared sigmas", "images/noise", "images + sigma *", "images + sigma**2 *", SAMPLING),
    ("an edited radius", "guarantee/audit", "0 <= c.radius <= radius + _ROUND_OFF * max(1.0, c.sigma)", "True", AUDIT),
    ("an edited p_lower", "guarantee/audit", "if not c.p_lower <= lower + _ROUND_OFF", "if False", AUDIT),
    ("an edited p_upper", "guarantee/audit", "if not c.p_upper >= upper - _ROUND_OFF", "if False", AUDIT),
    ("edited counts", "guarantee/audit", "sum(c.counts) != c.n or", "", AUDIT),
    ("another class's votes", "guarantee/audit", "if c.counts[c.prediction] != c.count", "if False", AUDIT),
    ("an edited alpha", "guarantee/audit", "share = c.alpha if", "share = 0.001 if", AUDIT),
    ("an edited alpha of a grid", "guarantee/audit", "c.limit, c.alpha)", "c.limit, 0.01)", AUDIT),
    ("an audit that does not pay for the noise", "guarantee/audit", "share) - c.tau)", "share))", AUDIT),
    ("missing looks", "guarantee/audit", "if len(c.accepted) != reached + 1", "if False", AUDIT),
    ("unplanned looks", "guarantee/audit", "(c.n, *(look for look, _ in c.accepted))", "()", AUDIT),
    ("looks after the last sample", "guarantee/audit", "if walk[-1] != (c.n, c.count)", "if False", AUDIT),
    ("votes out of nowhere", "guarantee/audit", "not 0 <= votes - had <= look - before", "False", AUDIT),
    ("one vote too few", "guarantee/audit", "if votes < least", "if votes < least - 1", AUDIT),
    ("a radius outside the grid", "guarantee/audit", "float(ndtr(c.radius / c.sigma))", "1.0", AUDIT),
    (
        "fresh votes against the noise as if it were free",
        "guarantee/audit",
        "certificate.p_lower - certificate.tau",
        "certificate.p_lower",
        AUDIT,
    ),
    ("fresh votes of many classes, one test", "guarantee/audit", "len(tests) * min(tests)", "min(tests)", AUDIT),
    ("a field twice", "guarantee/interchange", "len(values) < len(pairs)", "False", TEXT),
    ("a field unknown", "guarantee/interchange", "    if unknown:", "    if False:", TEXT),
    (
        "D that the radius itself has",
        "guarantee/certificate",
        "Fraction(self.radius)) ** 2) - 1",
        "Fraction(self.radius)) ** 2)",
        TEXT,
    ),
    (
        "D of a rounded radius",
        "guarantee/certificate",
        "Fraction(self.radius)",
        "Fraction(round(self.radius, 3))",
        TEXT,
    ),
    ("all of alpha for each sigma", "guarantee/composite", "alpha / len(sigmas)", "alpha", COMPOSITE),
    ("the largest radius over sigma", "guarantee/composite", "(best - rival) / 2", "best", COMPOSITE),
    ("a class for each sigma", "guarantee/composite", "chosen[top] =", "chosen[selection.argmax()] =", COMPOSITE),
    (
        "the composite's class from the estimation",
        "guarantee/composite",
        "_select(guesses)",
        "_select({s: np.asarray(v) for s, v in counts.items()})",
        COMPOSITE,
    ),
    ("the best of the rival's bounds", "guarantee/composite", "rival = max(", "rival = min(", COMPOSITE),
    ("a composite rounded up", "guarantee/composite", "/ 2 - _ROUND_OFF", "/ 2 + _ROUND_OFF", COMPOSITE),
    ("a record's radius not checked", "evidence/consistency", "if record.radius > most", "if False and most", EVIDENCE),
    ("a grid's radius not checked", "evidence/consistency", "abs(p - null) <= slack", "True", EVIDENCE),
    ("p_lower not checked", "evidence/consistency", "(least <= share) & (most >= share)", "share > 0", EVIDENCE),
    ("p_lower of too few votes", "evidence/consistency", "(least <= share) &", "True &", EVIDENCE),
    ("tau not taken off", "evidence/consistency", "np.clip((p + tau)", "np.clip((p)", EVIDENCE),
    ("votes not counted", "evidence/consistency", "sum(votes.values()) != n", "False", EVIDENCE),
    (
        "votes of another class",
        "evidence/consistency",
        "record.predict >= 0 and votes.get(record.predict, 0) != count",
        "False",
        EVIDENCE,
    ),
    (
        "a class without a majority",
        "evidence/consistency",
        "    if lower <= upper:\n",
        "    if lower < 0:\n",
        EVIDENCE,
    ),
    ("rows not counted", "evidence/consistency", "finished and len(records) != images", "False", EVIDENCE),
    ("what run.json says not compared", "evidence/consistency", "if found - {said[name]}:", "if False:", EVIDENCE),
    ("sigmas mixed", "evidence/accuracy", "if len(sigmas) > 1:", "if False:", EVIDENCE),
    ("equal sigmas accepted", "evidence/comparisons", "len(set(known)) < len(known)", "False", EVIDENCE),
    (
        "noises mixed",
        "evidence/identity",
        '("sigma", "seed", "n", "n0", ',
        '("sigma", "seed", "n", "n0", "noise", ',
        EVIDENCE,
    ),
    ("float noise of a smaller sigma", "images/laws", "float(nearest) >= self.sigma", "True", LATTICE),
    ("levels cut at whole numbers", "images/lattice", "half = mpmath.mpf(1) / 2", "half = mpmath.mpf(0)", LATTICE),
    (
        "half the words of a doubtful level",
        "images/lattice",
        "rest = words.random_raw(len(doubtful)) >> np.uint64(16)",
        "rest = np.zeros(len(doubtful), dtype=np.uint64)",
        LATTICE,
    ),
    (
        "a word at a threshold on its wrong side",
        "images/lattice",
        'np.searchsorted(table.cuts, whole, side="right")',
        'np.searchsorted(table.cuts, whole, side="left")',
        LATTICE,
    ),
    ("levels beside a threshold settled", "images/lattice", "2**48 - 1), side", "2**47 - 1), side", LATTICE),
    ("a device's words signed", "images/lattice", "random_(-(2**63), None", "random_(0, None", LATTICE),
    ("lattice noise for free", "images/lattice", "    tau = TAU\n", "    tau = 0.0\n", FUNCTION),
    ("images too large for tau", "images/lattice", "if 2 * variation(shape, self.sigma) > TAU", "if False", LATTICE),
    ("pixels off the grid", "images/lattice", "if off > _OFF_GRID", "if False", LATTICE),
    ("one noise for all sigmas", "images/noise", "|{float(noise.sigma)!r}", "", SAMPLING),
    (
        "rows that interact",
        "certification/sampler",
        "            try_rows(",
        "            (lambda *a, **k: None)(",
        FUNCTION,
    ),
    (
        "rows tried alone and not among others",
        "certification/function",
        "    for where, got, want in trials:",
        "    for where, got, want in trials[1:]:",
        FUNCTION,
    ),
    ("rows tried among others and not alone", "certification/function", "    if alone:\n", "    if False:\n", FUNCTION),
    (
        "a network that changes",
        "certification/sampler",
        "                witness.check()",
        "                pass",
        FUNCTION,
    ),
    (
        "a class left out that hides the others",
        "models/logits",
        ".topk(2, 1).values",
        ".nan_to_num(neginf=0).abs()",
        FUNCTION,
    ),
    ("rows of a batch's end not tried", "certification/function", "    if last:\n", "    if False:\n", FUNCTION),
    ("16 bits that hide a change", "certification/function", "_COARSE = 2.0**-6", "_COARSE = 1.0", FUNCTION),
    ("a network tried once for all", "certification/origin", "            sampler.forget()\n", "", FUNCTION),
    (
        "logits that are written over",
        "certification/sampler",
        "return logits.detach().clone()",
        "return logits.detach()",
        FUNCTION,
    ),
    ("pixels that are written over", "images/laws", ", copy=True)", ")", FUNCTION),
    ("images of several shapes", "certification/inputs", "if own != shape:", "if False:", FUNCTION),
    ("a long run tried at its end alone", "certification/sampler", "turn % AGAIN == 0", "False", FUNCTION),
    (
        "autocast around a call",
        "certification/sampler",
        "torch.autocast(device, enabled=False)",
        "torch.autocast(device, enabled=torch.is_autocast_enabled(device))",
        FUNCTION,
    ),
    (
        "a network trained meanwhile",
        "models/modes",
        "    if training:\n        raise RuntimeError(",
        "    if False:\n        raise RuntimeError(",
        FUNCTION,
    ),
    (
        "modes that the first to end restores",
        "models/modes",
        "            if not hold.holders:",
        "            if True:",
        FUNCTION,
    ),
    ("other logits of equal weights", "certification/task", '        "logits": origin.logits,\n', "", FUNCTION),
    ("other images", "certification/task", '        "images_hash": _images_hash(data, indices),\n', "", FUNCTION),
    ("another noise", "certification/task", '        "noise": task.noise.name,\n', "", FUNCTION),
    ("other weights at the end", "certification/task", "if weights_hash(model) != begun", "if False", FUNCTION),
    ("a seed that was given", "certification/smoothing", "seed is not None, self", "False, self", ATTACKS),
    (
        "a run whose seed was given",
        "certification/task",
        "reproduction=seed is not None",
        "reproduction=False",
        FUNCTION,
    ),
]


def survives(file: str, before: str, after: str, tests: str) -> bool:
    """Tell whether all tests pass with the mistake made."""
    with tempfile.TemporaryDirectory() as copy:
        for folder in ("robust_hub", "tests", "tools"):
            shutil.copytree(ROOT / folder, Path(copy) / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = Path(copy) / "robust_hub" / f"{file}.py"
        text = source.read_text()
        if before not in text:
            raise SystemExit(f"{file}.py has no {before!r} any more: correct the mutation")
        source.write_text(text.replace(before, after, 1))
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
        environment = {**os.environ, "PYTHONPATH": copy}
        try:
            done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, timeout=300)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode not in (0, 1):
            raise SystemExit(f"pytest could not run: {(done.stdout + done.stderr).decode()[-2000:]}")
        return done.returncode == 0


if __name__ == "__main__":
    asked = [m for m in MUTATIONS if all(word in m[0] for word in sys.argv[1:])]
    alive = []
    for what, *mutation in asked:
        if survives(*mutation):
            alive.append(what)
        print(f"{'SURVIVES' if what in alive else 'killed'}: {what}", flush=True)
    print(f"{len(asked) - len(alive)} of {len(asked)} mutations killed")
    raise SystemExit(1 if alive else 0)
