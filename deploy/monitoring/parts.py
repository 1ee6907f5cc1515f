"""What dashboards are made of, so that all look alike. Knows Grafana's library, and no metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

TAG: Final = "roundtable"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH: Final = 24
HEIGHT: Final = 8


class Query(NamedTuple):
    expr: str
    legend: str = ""
    rare: str = ""
    """Why it has no data while all is well; empty for what always has some."""


class Panel(NamedTuple):
    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str
    """What it tells and what to do about it."""
    limit: float | None = None
    """Where it becomes red: as an alert does."""
    number: bool = False
    """The value now, large."""


class Group(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    uid: str
    title: str
    about: str
    groups: tuple[Group, ...]
    job: str = ""
    """Whose instances can be chosen between (`$instance`)."""


def quantiles(
    metric: str, by: str = "", where: str = "", window: str = "$__rate_interval"
) -> tuple[Query, Query]:
    """Median and 99th percentile of a histogram."""
    label = _label(by) + " " if by else ""
    grouped = f"le, {by}" if by else "le"
    rates = f"sum by ({grouped}) (rate({metric}_bucket{{{where}}}[{window}]))"
    return (
        Query(f"histogram_quantile(0.5, {rates})", f"{label}median"),
        Query(f"histogram_quantile(0.99, {rates})", f"{label}99 %"),
    )


def slowest(metric: str, by: str, where: str = "") -> Query:
    """The 99th percentile alone."""
    return quantiles(metric, by, where)[1]


def _label(by: str) -> str:
    return " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(","))


def rate(metric: str, by: str = "", where: str = "", legend: str = "", rare: str = "") -> Query:
    """How often a second."""
    inner = f"rate({metric}{{{where}}}[$__rate_interval])" if where else f"rate({metric}[$__rate_interval])"
    if not by:
        return Query(f"sum({inner})", legend or "all", rare)
    return Query(f"sum by ({by}) ({inner})", legend or _label(by), rare)


def dashboard(board: Board) -> Dashboard:
    built = (
        Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("Roundtable")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(False)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    if board.job:
        chosen = QueryVariable("instance").label("Instance").datasource(SOURCE)
        chosen = chosen.query(f'label_values(up{{job="{board.job}"}}, instance)')
        built = built.with_variable(chosen.multi(True).include_all(True).all_value(".*"))
    numbers = count(1)
    for group in board.groups:
        built = built.with_row(Row(group.title).id(next(numbers)))
        for panel in group.panels:
            span = _span(panel, group.panels)
            made = _number(panel, span) if panel.number else _graph(panel, span)
            built = built.with_panel(made.id(next(numbers)))
    return built


def _span(panel: Panel, panels: Sequence[Panel]) -> int:
    """Numbers share a row; graphs stand in twos or threes."""
    alike = sum(each.number == panel.number for each in panels)
    return max(3, WIDTH // alike) if panel.number else WIDTH // min(3, max(2, alike))


def _targets(queries: Iterable[Query]) -> list[Dataquery]:
    return [
        Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        for number, query in enumerate(queries)
    ]


def _thresholds(panel: Panel) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if panel.limit is not None:
        steps.append(Threshold(value=panel.limit, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _graph(panel: Panel, span: int) -> timeseries.Panel:
    legend = common_builders.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
    legend = legend.placement(LegendPlacement.BOTTOM).show_legend(True)
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(span)
        .height(HEIGHT)
        .fill_opacity(8)
        .legend(legend)
        .tooltip(common_builders.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .thresholds(_thresholds(panel))
        .targets(_targets(panel.queries))
    )
    if panel.limit is not None:
        dashed = common_builders.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        built = built.thresholds_style(dashed)
    return built


def _number(panel: Panel, span: int) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(span)
        .height(4)
        .thresholds(_thresholds(panel))
        .targets(_targets(panel.queries))
    )
