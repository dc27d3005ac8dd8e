/** Tables that are read row by row on a narrow screen: each row becomes a card there, each cell with its title beside it. */
import { html, type Html, type Part } from './html.ts';

/** A column of a table. */
interface Column {
  readonly title: string;
  /** What stands beside a cell on a narrow screen, if that should say more. */
  readonly card?: string;
  /** Numbers, which end in one line. */
  readonly right?: boolean;
}

/** A cell: undefined for one in which nothing stands. */
type Cell = Html | string | number | undefined;

/** A row. */
export interface Row {
  /** Its class. */
  readonly kind?: string;
  readonly cells: readonly Cell[];
}

/**
 * A table with a caption.
 * @param options.head - which column names the row
 */
export function table(options: {
  readonly caption: string;
  readonly columns: readonly Column[];
  readonly head: number;
  readonly rows: readonly Row[];
}): Html {
  const { caption, columns, head, rows } = options;
  // The roles say what the elements are by themselves; a browser that lays them out as cards would forget it.
  const cellOf = (cell: Cell, index: number): Part => {
    const { title = '', card = title, right } = columns[index] ?? {};
    const kind = `${right === true ? 'right' : ''}${cell === undefined ? ' empty' : ''}`;
    const content = cell ?? html`<span class="none" aria-hidden="true">–</span>`;
    return index === head
      ? html`<th scope="row" role="rowheader">${content}</th>`
      : html`<td role="cell" class="${kind}" data-title="${card}"><div>${content}</div></td>`;
  };
  return html`<table role="table">
    <caption>
      ${caption}
    </caption>
    <thead role="rowgroup">
      <tr role="row">
        ${columns.map(({ title, right }) => html`<th scope="col" role="columnheader" class="${right === true ? 'right' : ''}">${title}</th>`)}
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${rows.map(
        ({ kind, cells }) =>
          html`<tr role="row" class="${kind}">
            ${cells.map(cellOf)}
          </tr>`,
      )}
    </tbody>
  </table>`;
}
