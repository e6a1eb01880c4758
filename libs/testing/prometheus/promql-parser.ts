/** The part of PromQL that the Prometheus for tests understands, as a tree. What is not in it is refused by name. */

export type Labels = Readonly<Record<string, string>>;

export interface Matcher {
  label: string;
  operator: '=' | '!=' | '=~' | '!~';
  value: string;
}

export interface Selector {
  type: 'selector';
  /** The metric's name is a matcher on `__name__`. */
  matchers: Matcher[];
  /** Null for an instant selector. */
  rangeMs: number | null;
  offsetMs: number;
}

export const BINARY_OPERATORS = ['+', '-', '*', '/', '==', '!=', '>=', '<=', '>', '<'] as const;
export type BinaryOperator = (typeof BINARY_OPERATORS)[number];

export type Expression =
  | { type: 'number'; value: number }
  | Selector
  | { type: 'call'; name: string; args: Expression[] }
  | { type: 'aggregation'; operator: string; grouping: { by: boolean; labels: string[] } | null; expression: Expression }
  | { type: 'binary'; operator: BinaryOperator; matching: { on: boolean; labels: string[] } | null; left: Expression; right: Expression };

export const AGGREGATIONS = ['sum', 'avg', 'min', 'max', 'count'] as const;

/** A query is wrong, or asks for what the Prometheus for tests does not have. */
export class PromQlError extends Error {
  override readonly name = 'PromQlError';
}

interface Token {
  type: 'number' | 'string' | 'duration' | 'name' | 'symbol' | 'end';
  text: string;
}

const TOKENS = /\s+|#.*|(?<duration>(?:\d+(?:ms|[smhdwy]))+(?![\w.]))|(?<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<name>[a-zA-Z_:][\w:]*)|(?<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(?<symbol>=~|!~|==|!=|>=|<=|[-+*/=<>(){}[\],:@^%])/y;

function tokensOf(query: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < query.length;) {
    TOKENS.lastIndex = at;
    const match = TOKENS.exec(query);
    if (match === null) throw new PromQlError(`unexpected character at ${at}: ${query.slice(at, at + 10)}`);
    at = TOKENS.lastIndex;
    const found = Object.entries(match.groups ?? {}).find(([, text]) => text !== undefined);
    if (found !== undefined) tokens.push({ type: found[0] as Token['type'], text: found[1] ?? '' });
  }
  tokens.push({ type: 'end', text: 'end of input' });
  return tokens;
}

const UNITS_MS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_536_000_000 };

/** A Prometheus duration such as `5m` or `1h30m` in ms; undefined when it is none. */
export function durationMs(text: string): number | undefined {
  if (!/^(?:\d+(?:ms|[smhdwy]))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[smhdwy])/g)) total += Number(count) * (UNITS_MS[unit ?? ''] ?? 0);
  return total;
}

/** @throws {PromQlError} */
export function parsePromQl(query: string): Expression {
  const parser = new Parser(tokensOf(query));
  const expression = parser.expression();
  parser.expect('end of input');
  return expression;
}

/** A selector alone, as `match[]` of the API wants it. @throws {PromQlError} */
export function parseSelector(text: string): Selector {
  const expression = parsePromQl(text);
  if (expression.type !== 'selector' || expression.rangeMs !== null) throw new PromQlError(`${text} is no series selector`);
  return expression;
}

/** Binary operators bind as in Prometheus: comparisons weakest, then + and -, then * and /; all to the left. */
const PRECEDENCE: Record<BinaryOperator, number> = { '==': 1, '!=': 1, '>=': 1, '<=': 1, '>': 1, '<': 1, '+': 2, '-': 2, '*': 3, '/': 3 };

class Parser {
  #at = 0;

  constructor(readonly tokens: readonly Token[]) {}

  expression(weakest = 1): Expression {
    let left = this.#unary();
    for (;;) {
      const operator = this.#peek().text as BinaryOperator;
      if (this.#peek().type !== 'symbol' || !BINARY_OPERATORS.includes(operator) || PRECEDENCE[operator] < weakest) break;
      this.#next();
      const matching = this.#grouping('on', 'ignoring');
      if (['group_left', 'group_right', 'bool'].includes(this.#peek().text)) this.#unsupported();
      const right = this.expression(PRECEDENCE[operator] + 1);
      left = { type: 'binary', operator, matching: matching && { on: matching.first, labels: matching.labels }, left, right };
    }
    return left;
  }

  expect(text: string): void {
    const token = this.#next();
    if (token.text !== text || token.type === 'string') {
      this.#at--;
      this.#unsupported(`expected ${text}`);
    }
  }

  #unary(): Expression {
    if (this.#take('-')) return { type: 'binary', operator: '*', matching: null, left: { type: 'number', value: -1 }, right: this.expression(3) };
    if (this.#take('+')) return this.expression(3);
    return this.#primary();
  }

  #primary(): Expression {
    const token = this.#next();
    if (token.type === 'number') return { type: 'number', value: Number(token.text) };
    if (token.text === '(' && token.type === 'symbol') {
      const inner = this.expression();
      this.expect(')');
      if (this.#peek().text === '[') this.#unsupported('subqueries');
      return inner;
    }
    if (token.text === '{' && token.type === 'symbol') return this.#selector([], true);
    if (token.type !== 'name') {
      this.#at--;
      this.#unsupported('expected an expression');
    }
    if (AGGREGATIONS.includes(token.text as (typeof AGGREGATIONS)[number])) return this.#aggregation(token.text);
    if (this.#take('(')) return this.#call(token.text);
    return this.#selector([{ label: '__name__', operator: '=', value: token.text }], this.#take('{'));
  }

  #aggregation(operator: string): Expression {
    const before = this.#grouping('by', 'without');
    this.expect('(');
    const expression = this.expression();
    this.expect(')');
    const grouping = before ?? this.#grouping('by', 'without');
    return { type: 'aggregation', operator, grouping: grouping && { by: grouping.first, labels: grouping.labels }, expression };
  }

  #call(name: string): Expression {
    const args: Expression[] = [];
    if (!this.#take(')')) {
      do args.push(this.expression());
      while (this.#take(','));
      this.expect(')');
    }
    if (this.#peek().text === '[') this.#unsupported('subqueries');
    return { type: 'call', name, args };
  }

  #selector(matchers: Matcher[], braces: boolean): Selector {
    while (braces && !this.#take('}')) {
      const label = this.#next();
      const operator = this.#next();
      const value = this.#next();
      if (label.type !== 'name' || value.type !== 'string' || !['=', '!=', '=~', '!~'].includes(operator.text)) throw new PromQlError(`${label.text}${operator.text}${value.text} is no label matcher`);
      matchers.push({ label: label.text, operator: operator.text as Matcher['operator'], value: unquote(value.text) });
      if (!this.#take(',') && this.#peek().text !== '}') this.expect('}');
    }
    let rangeMs: number | null = null;
    if (this.#take('[')) {
      rangeMs = this.#duration();
      if (this.#peek().text === ':') this.#unsupported('subqueries');
      this.expect(']');
    }
    if (this.#peek().text === '@') this.#unsupported();
    const offsetMs = this.#take('offset') ? this.#duration() : 0;
    return { type: 'selector', matchers, rangeMs, offsetMs };
  }

  #duration(): number {
    const token = this.#next();
    const ms = durationMs(token.text);
    if (ms === undefined || ms === 0) throw new PromQlError(`${token.text} is no duration`);
    return ms;
  }

  /** `by (a, b)` and the like; null when neither word stands here. */
  #grouping(first: string, second: string): { first: boolean; labels: string[] } | null {
    const word = [first, second].find((one) => this.#take(one));
    if (word === undefined) return null;
    this.expect('(');
    const labels: string[] = [];
    while (!this.#take(')')) {
      const label = this.#next();
      if (label.type !== 'name') throw new PromQlError(`${label.text} is no label`);
      labels.push(label.text);
      if (!this.#take(',') && this.#peek().text !== ')') this.expect(')');
    }
    return { first: word === first, labels };
  }

  #unsupported(what = `\`${this.#peek().text}\``): never {
    throw new PromQlError(`parse error at \`${this.#peek().text}\`: ${what} (the Prometheus for tests knows a part of PromQL)`);
  }

  #peek(): Token {
    return this.tokens[this.#at] ?? { type: 'end', text: 'end of input' };
  }

  #next(): Token {
    const token = this.#peek();
    this.#at++;
    return token;
  }

  #take(text: string): boolean {
    const token = this.#peek();
    if (token.text !== text || token.type === 'string') return false;
    this.#at++;
    return true;
  }
}

function unquote(text: string): string {
  if (text.startsWith('`')) return text.slice(1, -1);
  return text.slice(1, -1).replace(/\\(.)/g, (_, escaped: string) => ({ n: '\n', t: '\t', r: '\r' })[escaped] ?? escaped);
}
