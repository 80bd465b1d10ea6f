// The page, and nothing else: whoever opens it may read the prices.

import { serve } from "../serve.js";

serve(new URL("page/", import.meta.url));
