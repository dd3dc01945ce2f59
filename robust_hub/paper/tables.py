"""The rows of the tables and figures of the paper: what each row trains, on what, and the paper's own numbers.

Numbers are written as the paper prints them: clean accuracy, then "(certified accuracy at 0) certified accuracy" at
each radius, in percent. They appear in our tables only in columns headed "paper".

Source: Qiu, Zhang, Wu, Lin 2023, tables 1 and 3 to 11, figures 2 and 3.
"""

from __future__ import annotations

from robust_hub.paper.rows import CLEAN, MIXED, SCALES, SIGMAS, Row, Sigmas, Table, find_by_name


def _transfer(head_only: bool, papers: dict[tuple[Sigmas, Sigmas, bool], str]) -> tuple[Row, ...]:
    kind = "fixed features" if head_only else "full network"
    words = {CLEAN: "clean", (0.25,): "sigma 0.25", MIXED: "mixed noise"}
    return tuple(
        Row(
            f"{kind}: {words[before]}, then {words[after]}{'' if long else ', one epoch'}",
            "cifar10",
            after,
            before,
            head_only=head_only,
            long=long,
            paper=paper,
        )
        for (before, after, long), paper in papers.items()
    )


def _single_sigmas(dataset: str, papers: tuple[str, ...], pretrained: str) -> tuple[Row, ...]:
    """Give the rows "clean, 0.25, 0.5, 1.0", pretrained "never", on the "same" sigma, or on "clean" images."""
    sets: tuple[Sigmas, ...] = (CLEAN, *((sigma,) for sigma in SIGMAS))
    how = "from scratch, " if pretrained == "never" else ""
    return tuple(
        Row(
            f"{how}{'clean' if sigmas == CLEAN else f'sigma {sigmas[0]:g}'}",
            dataset,
            sigmas,
            {"never": None, "same": sigmas, "clean": CLEAN}[pretrained],
            long=pretrained != "never",
            paper=paper,
        )
        for sigmas, paper in zip(sets, papers, strict=True)
    )


def _mixed(dataset: str, paper: str, long: bool = True) -> Row:
    return Row(f"mixed noise{'' if long else ', one clean epoch'}", dataset, CLEAN, MIXED, long=long, paper=paper)


def _downstream(name: str, dataset: str, papers: tuple[str, ...]) -> Table:
    rows = (*_single_sigmas(dataset, papers[:4], "clean"), _mixed(dataset, papers[4]))
    start = "the paper's first four rows start from PyTorch's ImageNet weights, ours from our clean pretraining"
    return Table(name, f"Another data set: {dataset} ({start})", rows)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "table1",
            "Transfer of semantics and robustness to CIFAR-10",
            (
                *_transfer(
                    False,
                    {
                        (CLEAN, CLEAN, True): "97.8 | 10.1",
                        (CLEAN, (0.25,), True): "77.6 | 69.4",
                        ((0.25,), CLEAN, True): "94.4 | 21.6",
                        ((0.25,), (0.25,), True): "83.1 | 72.6",
                        (MIXED, CLEAN, False): "96.6 | 65.9",
                        (MIXED, CLEAN, True): "98.0 | 71.4",
                    },
                ),
                *_transfer(
                    True,
                    {
                        (CLEAN, CLEAN, True): "94.3 | 10.1",
                        (CLEAN, (0.25,), True): "23.8 | 16.5",
                        ((0.25,), CLEAN, True): "84.8 | 65.9",
                        ((0.25,), (0.25,), True): "77.9 | 72.6",
                        (MIXED, CLEAN, False): "94.7 | 65.3",
                    },
                ),
            ),
            (0.25,),
        ),
        Table(
            "table3",
            "CIFAR-10, one network for every sigma",
            (_mixed("cifar10", "98.0 | (90.2)80.1 (90.2)62.5 (90.2)45.1 (77.3)31.6"),),
        ),
        Table(
            "table4",
            "CIFAR-10 from scratch against one clean epoch after mixed noise",
            (
                *_single_sigmas(
                    "cifar10",
                    (
                        "87.5 | (10.5)10.5 (10.5)10.1 (10.5)9.7 (10.5)5.5",
                        "71.8 | (74.2)59.3 (74.2)41.7 (74.2)26.0 (46.0)6.7",
                        "54.9 | (61.9)49.0 (61.9)38.7 (61.9)29.6 (61.9)20.8",
                        "41.1 | (45.0)39.1 (45.0)30.0 (45.0)24.8 (40.9)19.8",
                    ),
                    "never",
                ),
                _mixed("cifar10", "96.8 | (81.3)66.7 (81.3)45.0 (81.3)27.2 (60.9)16.9", long=False),
            ),
        ),
        Table(
            "table5",
            "CIFAR-10, one sigma in both trainings against mixed noise",
            (
                *_single_sigmas(
                    "cifar10",
                    (
                        "97.8 | (10.1)10.1 (10.1)10.1 (10.1)10.1 (10.1)10.1",
                        "82.7 | (89.7)78.6 (89.7)57.1 (89.7)38.5 (46.6)11.7",
                        "64.1 | (74.2)62.3 (74.2)48.8 (74.2)36.1 (74.2)25.2",
                        "38.8 | (52.2)42.1 (52.2)34.1 (52.2)27.4 (52.2)22.0",
                    ),
                    "same",
                ),
                _mixed("cifar10", "97.9 | (88.7)77.6 (88.7)57.5 (88.7)36.7 (72.6)23.8"),
            ),
        ),
        Table(
            "table6",
            "CIFAR-10, the normalisation layer",
            tuple(
                Row(label, "cifar10", CLEAN, MIXED, norm, long=True, paper=paper)
                for label, norm, paper in (
                    ("batch norm", "bn", "98.3 | (18.1)12.3 (12.7)8.7 (8.3)8.3 (8.3)8.3"),
                    ("instance norm", "in", "97.6 | (83.9)66.3 (83.9)41.5 (83.9)21.8 (40.9)4.8"),
                    ("group norm", "gn", "98.3 | (87.7)71.4 (87.7)48.2 (87.7)28.8 (45.6)8.3"),
                    ("layer norm", "ln", "98.0 | (85.5)71.4 (85.5)49.0 (85.5)25.4 (39.1)17.7"),
                )
            ),
        ),
        Table(
            "table7",
            "CIFAR-100 from scratch against one clean epoch after mixed noise",
            (
                *_single_sigmas(
                    "cifar100",
                    (
                        "63.7 | (3.2)1.4 (3.2)0.8 (0.6)0.6 (0.6)0.6",
                        "29.5 | (47.5)33.6 (47.5)22.8 (47.5)12.4 (20.9)3.2",
                        "22.3 | (36.0)27.5 (36.0)22.1 (36.0)15.8 (36.0)11.5",
                        "14.29 | (18.1)15.2 (18.7)13.1 (18.7)10.7 (18.7)8.8",
                    ),
                    "never",
                ),
                _mixed("cifar100", "79.4 | (54.6)41.9 (54.6)27.0 (54.6)17.5 (34.5)10.5", long=False),
            ),
        ),
        _downstream(
            "table8",
            "pets",
            (
                "91.3 | (6.0)3.5 (3.5)3.3 (3.5)3.0 (3.5)2.2",
                "50.8 | (71.2)60.3 (71.2)49.7 (71.2)39.7 (2.4)2.4",
                "36.2 | (56.0)50.3 (56.0)45.7 (56.0)39.9 (56.0)35.1",
                "24.6 | (40.5)38.0 (40.5)35.3 (40.5)31.5 (40.5)26.6",
                "91.8 | (88.6)84.2 (88.6)75.5 (85.1)65.2 (85.1)57.1",
            ),
        ),
        _downstream(
            "table9",
            "food101",
            (
                "78.0 | (6.4)4.0 (6.4)2.5 (6.4)0.9 (0.9)0.8",
                "56.0 | (71.4)61.7 (71.4)51.7 (71.4)38.4 (44.5)20.0",
                "42.9 | (62.8)56.3 (62.8)50.0 (62.8)43.3 (62.8)36.7",
                "27.7 | (50.0)46.4 (50.0)42.3 (50.0)38.5 (50.0)35.7",
                "83.6 | (80.1)73.3 (80.1)65.4 (74.8)56.7 (74.8)48.3",
            ),
        ),
        _downstream(
            "table10",
            "flowers102",
            (
                "92.2 | (14.8)10.1 (14.8)6.8 (14.8)4.9 (0.8)0.8",
                "31.9 | (70.6)68.7 (70.6)64.8 (70.6)58.6 (8.1)5.5",
                "26.8 | (70.6)66.6 (70.6)63.1 (70.6)60.1 (70.6)55.4",
                "13.4 | (55.7)54.4 (55.7)52.4 (55.7)51.3 (55.7)50.2",
                "87.5 | (78.2)74.4 (78.2)70.1 (78.2)64.6 (68.0)53.1",
            ),
        ),
        _downstream(
            "table11",
            "dtd",
            (
                "68.6 | (24.5)20.8 (24.5)17.2 (24.5)14.6 (4.2)4.2",
                "31.2 | (49.0)44.8 (49.0)41.7 (49.0)39.1 (15.1)12.0",
                "10.6 | (40.6)38.0 (40.6)35.9 (40.6)32.8 (40.6)29.7",
                "5.9 | (29.2)27.1 (29.2)27.1 (29.2)25.5 (29.2)22.9",
                "66.5 | (60.9)54.7 (60.9)46.4 (60.9)37.0 (50.5)31.3",
            ),
        ),
        Table("figure2", "Curves of one network", (_mixed("cifar10", "98.0"), _mixed("cifar100", "79.4", long=False))),
        Table(
            "figure3",
            "Curves on other data sets",
            tuple(
                _mixed(dataset, clean)
                for dataset, clean in (("pets", "91.8"), ("food101", "83.6"), ("flowers102", "87.5"), ("dtd", "66.5"))
            ),
        ),
    )
}


def find_table(name: str) -> Table:
    """Find a table or figure by its name.

    Raises:
        ValueError: If there is none; the near names are offered.
    """
    return find_by_name("table", name, TABLES)


def check_data_name(name: str) -> None:
    """Refuse a name of data that no row and no pretraining uses, so that a slip is not passed over.

    Raises:
        ValueError: If there is none of this name; the near names are offered.
    """
    names = [row.dataset for table in TABLES.values() for row in table.rows]
    names += [scale.pretraining for scale in SCALES.values()]
    find_by_name("data set", name, dict.fromkeys(names))
