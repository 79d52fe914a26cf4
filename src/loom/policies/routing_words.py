"""What in a text speaks for code or for reasoning, and how much. Tables and one way to read them.

Evidence of 3 decides alone; 2 wants one more sign beside it; 1 is an everyday word, of which three different
ones must meet. The words of a row count once, however many of them a text holds. Every pattern is bounded, so
that no text costs more than its length.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONG = 400
"""In texts longer than this, everyday words meet by chance: they no longer decide among themselves."""

# Where words are written without spaces, letters of another script end a word: 用Python写.
_WORD = re.compile(r"[^\W\d_\u2e80-\U0010ffff]+(?:[-'][^\W\d_\u2e80-\U0010ffff]+)*[+#]*")


class Evidence(NamedTuple):
    """Signs of one category, each with its weight.

    ``words`` maps a word to the weight of its row and the row's first word; ``signs`` are for scripts without
    spaces and for words in company.
    """

    shapes: tuple[tuple[int, re.Pattern[str]], ...]
    words: dict[str, tuple[int, str]]
    signs: tuple[tuple[int, str], ...]


def evidence(text: str, of: Evidence) -> int:
    """How much in ``text`` speaks for that category."""
    found = {of.words[word] for word in map(str.casefold, _WORD.findall(text)) if word in of.words}
    found |= {(weight, sign) for weight, sign in of.signs if sign in text}
    everyday = sum(1 for weight, _ in found if weight == 1)
    decided = sum(weight for weight, _ in found if weight > 1)
    decided += sum(weight for weight, shape in of.shapes if shape.search(text))
    return decided + (min(everyday, 2) if len(text) > LONG else everyday)


def _rows(*rows: tuple[int, str]) -> dict[str, tuple[int, str]]:
    words: dict[str, tuple[int, str]] = {}
    for weight, row in rows:
        spelled = row.split()
        words |= dict.fromkeys(spelled, (weight, spelled[0]))
    return words


def _shapes(*rows: tuple[int, str]) -> tuple[tuple[int, re.Pattern[str]], ...]:
    """ASCII throughout: code is, and so letters of other scripts are no part of its words."""
    return tuple((weight, re.compile(pattern, re.ASCII)) for weight, pattern in rows)


def _signs(weight: int, row: str) -> tuple[tuple[int, str], ...]:
    return tuple((weight, sign) for sign in row.split())


# --- code -------------------------------------------------------------------------------------------

_LINE = r"(?:\A|\n|[`:;]\s?)[ \t>]{0,40}"
"""Where a line of code may begin: on its own line, or quoted in a sentence."""
_FILES = (
    "py|pyi|ipynb|js|mjs|cjs|jsx|ts|tsx|java|kt|scala|c|h|cpp|cc|hpp|cxx|rs|go|rb|php|cs|swift|sh|bash|sql|css"
    "|scss|html|vue|svelte|lua|hs|ex|exs|clj|dart|zig|toml|yaml|yml|json|lock|gradle|cfg|proto|tf"
)
_TOOLS = (
    r"(?:pip|npm|yarn|pnpm|cargo|git|docker|kubectl|brew|poetry|uv)\s{1,3}"
    r"(?:install|uninstall|run|add|build|commit|push|pull|rebase|merge|clone|checkout|compose|apply|bisect)"
)
_THINGS = r"(?:functions?|methods?|regex(?:es)?|subclass(?:es)?|quer(?:y|ies)(?! letter)|recursion|loops?)"
_PARTS = (
    r"(?:apis?|endpoints?|unit tests?|decorators?|migrations?|schemas?|webhooks?|components?|cli|dockerfiles?"
    r"|linters?|parsers?)"
)
_WRITE = r"(?:[Ss]chreib|[Ii]mplementier|[Éé]cri|[Ee]scrib|[Ss]criv|[Нн]апиш)"
_FUNCTION = r"(?:[Ff]unktion|fonction|función|funzione|функци)"

CODING = Evidence(
    shapes=_shapes(
        (3, "```"),
        # Definitions, declarations, imports.
        (3, r"\b(?:def|func|fn|sub|function)\s{1,4}\w{1,60}\(|\bfunction ?\([\w, ]{0,80}\) ?\{|\) ?=>"),
        (3, _LINE + r"(?:abstract |data |final |public )?class\s[A-Z]\w{0,60} ?[:({]"),
        (3, _LINE + r"from\s{1,4}[\w.]{1,60}\s{1,4}import\b"),
        (3, _LINE + r"import\s[\w.]{1,60}\sas\s\w{1,30}\s*(?:\n|\Z)|#include ?[<\"]|\A#!/"),
        (3, r"\b(?:const|let|var|val|int|String|auto)\s{1,4}\w{1,60} ?=|\bpublic (?:static|class|void)\b"),
        # Calls and operators.
        (3, r"\w\(\)|\b\w{1,60}\.\w{1,60}\(|\b[a-z]{1,30}_\w{1,60}\("),
        (3, r" [!=]==? |&&|\|\||\w::\w|[)\]}];[ \t]*(?:\n|\Z)|\w ?= ?[^;=\n]{1,80};"),
        # SQL in capitals, or with a star; in small letters it is prose: "select one from the list".
        (3, r"\bSELECT\b[^;]{1,200}\bFROM\b|\b(?i:select)\s{1,4}\*\s"),
        (3, r"\b(?:INSERT INTO|CREATE TABLE|DELETE FROM)\b"),
        (3, r"</?(?:div|span|html|body|head|script|button|input|table|img|svg)\b[^<>]{0,200}>"),
        # Failures: the traces of the usual languages, and exceptions by name.
        (3, r"\bTraceback\b|\bFile \"[^\"\n]{1,200}\", line \d|(?:\A|\n)panic:"),
        (3, r"\bat [\w.$<>]{1,100} ?\([^()\n]{1,120}\.\w{1,6}:\d"),
        (3, r"\b[A-Z][A-Za-z]{1,40}(?:Error|Exception)\b|\berror\[E\d|\bnpm ERR!"),
        (3, r"\bE(?:NOENT|ACCES|CONNREFUSED|CONNRESET|ADDRINUSE|PIPE|PERM)\b|\bSIG(?:SEGV|KILL|TERM|ABRT)\b"),
        (3, r"(?i:\bstack ?trace|\bseg(?:mentation )?fault|\bnull pointer|\bexit code \d|\bcore dump)"),
        # A file of code, not a page of a site.
        (3, rf"(?<![\w/.:@-])[\w./-]{{1,120}}\.(?:{_FILES})\b(?![.-]\w)"),
        (3, rf"(?:\A|[\s`$]){_TOOLS}\b"),
        # Names as only programs spell them; the last kind is that of products as well.
        (2, r"\b[a-z]{3,30}[A-Z][a-z]{2,30}\w{0,30}\b|\b[a-z]{2,30}_[a-z]{2,30}\w{0,30}\b"),
        (1, r"\b[A-Z][a-z]{2,30}[A-Z][a-z]{2,30}\w{0,30}\b"),
        # What is done to code, in so many words.
        (3, r"(?i:\b(?:fix|debug|squash|reproduce)\w{0,3}\s(?:\w{1,12}\s)?bugs?\b)"),
        (3, r"(?i:\b(?:throw|rais|catch)\w{0,3}\s(?:an?\s)?(?:\w{1,20}\s)?(?:exception|error)s?\b)"),
        (
            3,
            rf"(?i:\b(?:write|implement|refactor|call)\s(?:an?|the|this|my|some)\s(?:\w{{1,20}}\s)?{_THINGS}\b)",
        ),
        (3, rf"(?i:\b(?:write|create|add|build|make|design)\s(?:an?|the)\s(?:\w{{1,20}}\s)?{_PARTS}\b)"),
        (3, r"(?i:\b(?:for|while|infinite|event|nested) loops?\b|\bunit tests?\b|\btype hints?\b)"),
        (3, r"(?i:\b(?:source|review|write|clean|run|improve|optimi[sz]e)\w{0,4} (?:\w{1,8} )?code\b)"),
        (
            3,
            r"(?i:\b(?:this|my|our) code\b.{0,30}\b(?:work|run|fail|slow|return|print|hang|crash|compil)\w{0,4})",
        ),
        (3, r"(?i:\bpull requests?\b|\bbuild fails\b|\b(?:build|ci|pipeline) is (?:broken|red|failing)\b)"),
        (2, r"(?i:\b(?:write|add|run|fix)\s(?:\w{1,12} )?tests\b|\btests? (?:are |is |keeps? |still )?fail)"),
        (3, r"\bin (?:Rust|Ruby|Go|Swift)\b(?! ?[A-Z])|(?i:\b(?:binary search|linked list|hash ?map)\b)"),
        (1, r"(?i:\b(?:in|with|using) (?:python|perl|haskell|bash|react|pandas|flask)\b|\bim code\b)"),
        (3, rf"(?:\A|\s){_WRITE}\S{{0,6}}\s(?:\S{{1,12}}\s){{0,2}}{_FUNCTION}"),
    ),
    words=_rows(
        (3, "traceback stacktrace backtrace segfault coredump"),
        (3, "debug debugs debugging debugger"),
        (3, "refactor refactors refactored refactoring refaktoriere refactoriza"),
        (3, "regex regexp regexes"),
        (3, "async coroutine coroutines asyncio mutex deadlock deadlocks"),
        (
            3,
            "codebase codebases compiler linter dockerfile makefile webpack pytest eslint numpy pytorch kubectl",
        ),
        (3, "git changelog localhost stdin stdout stderr div undefined"),
        (
            3,
            "javascript typescript golang kotlin c++ c# php sql postgresql postgres mysql sqlite mongodb graphql",
        ),
        (2, "python java perl haskell linux powershell"),
        (
            2,
            "api apis sdk sdks cli json yaml xml html css http endpoint endpoints backend frontend middleware",
        ),
        (2, "docker kubernetes github gitlab npm webhook oauth jwt"),
        (2, "syntax algorithm algorithms algorithmus algoritmo recursion recursive boolean integer unittest"),
        (2, "programming programmieren programmiere programar programmazione quellcode"),
        (2, "django fastapi laravel nginx redis"),
        (1, "rust ruby scala bash react flask pandas spring rails angular"),
        (1, "code codes código codice код кода"),
        (1, "compile compiles compiled compiling kompiliert kompilieren compila compilar"),
        (1, "implement implements implemented implementing implementation implementiere implementa"),
        (1, "function functions funktion función fonction funzione função функция функцию"),
        (1, "class classes klasse clase classe"),
        (1, "import imports imported importing"),
        (
            1,
            "error errors fehler erreur errore erro ошибка ошибку fix fixes fixing fixed bug bugs crash crashes",
        ),
        (1, "exception exceptions excepción"),
        (1, "module modules package packages library libraries framework"),
        (1, "method methods variable variables parameter parameters"),
        (1, "loop loops array arrays string strings tuple dict pointer thread threads"),
        (1, "script scripts program programs programm programa"),
        (1, "database databases query queries schema table server servers datenbank"),
        (1, "component components render renders re-renders rendering"),
        (1, "rename renames renamed"),
        (1, "deploy deployment commit commits branch branches merge repo repository"),
    ),
    signs=(
        *_signs(2, "代码 编程 程序 コード プログラム 코드 报错"),
        *_signs(1, "函数 関数 함수"),
        *_signs(1, "错误 エラー 오류"),
        *_signs(1, "写一个 实现 書いて 実装 구현"),
        *_signs(1, "列表 リスト 排序 配列"),
    ),
)

# --- reasoning ----------------------------------------------------------------------------------------

REASONING = Evidence(
    shapes=_shapes(
        (3, r"(?i:\bpros and cons\b|\btrade-?\s?offs?\b|\bstep[- ]by[- ]step\b|\broot cause)"),
        (3, r"(?i:\bsecond[- ]order effects?\b|\bcost[- ]benefit\b|\bthink (?:hard|deeply|through)\b)"),
        (3, r"(?i:\bcompar(?:e|ing)\s[^.?!\n]{1,80}\b(?:and|with|to|vs|versus|against)\b)"),
        (3, r"(?i:\bprove that\b|\bwhat (?:would|could) happen if\b)"),
        (2, r"(?i:\b(?:decid|choos)(?:e|ing) between\b|\bbetter to \w{1,20} .{0,60}\bor\b)"),
    ),
    words=_rows(
        (3, "analyze analyse analyzing analysing analysis analysiere analysieren analiza analizar analizza"),
        (3, "evaluate evaluates evaluating evaluation assess assessing assessment bewerte évalue evalúa"),
        (
            3,
            "explain explains explaining explanation erkläre erklär explica explícame explique spiega объясни",
        ),
        (3, "implication implications ramifications implicaciones"),
        (3, "critique hypothesis hypotheses hypothetical counterargument dilemma paradox"),
        (3, "tradeoff tradeoffs abwägung theorem deduce infer"),
        (3, "beweise demuestra démontre докажи проанализируй сравни оцени"),
        (2, "prove derive"),
        (2, "compare compares comparing comparison vergleiche vergleich compara comparer confronta"),
        (2, "strategy strategies strategic strategie estrategia stratégie"),
        (2, "architect architecture architectural architektur"),
        (2, "justify rationale reasoning argue argues"),
        (2, "consequence consequences konsequenzen consecuencias conséquences"),
        (2, "pros cons vorteile nachteile ventajas desventajas avantages inconvénients"),
        (2, "feasible feasibility prioritize prioritise"),
        (2, "risks scenario scenarios assumptions"),
        (1, "why warum weshalb porque pourquoi perché почему"),
        (1, "plan plans planning"),
        (1, "design designs designing"),
        (1, "should would could sollte"),
        (
            1,
            "recommend recommends recommendation suggest advise empfiehl recomienda decide decision choose "
            "approach approaches alternative alternatives option options better best worse worst",
        ),
        (1, "reason reasons cause causes"),
        (1, "long-term growth market impact"),
    ),
    signs=(
        *_signs(3, "分析 분석"),
        *_signs(3, "评估 評価 평가"),
        *_signs(3, "解释 説明 설명"),
        *_signs(3, "利弊 优缺点 長所と短所"),
        *_signs(2, "比较 比較 비교"),
        *_signs(2, "策略 戦略 전략"),
        *_signs(1, "为什么 なぜ 왜"),
        (1, "por qué"),
    ),
)
