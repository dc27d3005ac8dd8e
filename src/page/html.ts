/** HTML that escapes by default: a template whose every value is text of someone else's making, unless it is HTML itself. */
import { printable } from '../core/printable.ts';

/** Markup that is safe to send: only the template makes it. */
export class Html {
  readonly #text: string;
  private constructor(text: string) {
    this.#text = text;
  }

  /** The markup. */
  toString(): string {
    return this.#text;
  }

  /** Markup that is a file of this project. */
  static ofOwn(text: string): Html {
    return new Html(text);
  }

  /** @internal What `html` calls; with a text that is markup already. */
  static ofTemplate(strings: TemplateStringsArray, values: readonly Part[]): Html {
    return new Html(String.raw({ raw: strings }, ...values.map(markup)));
  }
}

/** What may stand in a template: text and numbers are escaped, markup is taken as it is, undefined is nothing. */
export type Part = Html | string | number | undefined | readonly Part[];

/**
 * A piece of HTML. Values may stand where text may, and in attributes with quotes around them; nowhere else.
 * Characters that steer (control and format characters, such as those that turn the direction of writing) are shown as `\uFFFD`.
 */
export function html(strings: TemplateStringsArray, ...values: readonly Part[]): Html {
  return Html.ofTemplate(strings, values);
}

function markup(part: Part): string {
  if (part instanceof Html) return part.toString();
  if (part === undefined) return '';
  // Whatever else gets here past the compiler is text.
  return Array.isArray(part) ? part.map(markup).join('') : escaped(String(part));
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return printable(text).replace(/[&<>"']/g, (one) => ESCAPES[one] ?? '');
}
