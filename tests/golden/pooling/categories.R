# Golden values of a covariate of three words, some of them unknown, and of one whole level missing
# in a trial. Run: Rscript categories.R > categories.json  (writes categories.csv beside it)
suppressMessages(library(jsonlite))
RNGversion("4.2.0"); set.seed(77)
rows <- do.call(rbind, lapply(1:4, function(i) {
  n <- c(60, 48, 72, 54)[i]
  arm <- rep_len(if (i == 3) c("control", "low", "high") else c("control", "low"), n)
  nyha <- if (i == 4) rep("II", n) else sample(c("I", "II", "III"), n, TRUE)
  base <- round(rnorm(n, 42 + i, 7), 2)
  y <- round(10 + 0.6 * base + c(control = 0, low = i, high = i + 2)[arm] +
               c(I = 0, II = 1, III = -2)[nyha] + rnorm(n, 0, 4 + i), 2)
  nyha[runif(n) < 0.08] <- NA; base[runif(n) < 0.06] <- NA; y[runif(n) < 0.05] <- NA
  data.frame(trial = paste0("T", i), participant_id = sprintf("%03d", 1:n), arm = arm,
             nyha = nyha, lv_ef_baseline = base, lv_ef_percent = y)
}))
write.csv(rows, "categories.csv", row.names = FALSE, na = "", quote = FALSE)
rows <- read.csv("categories.csv", na.strings = "", colClasses = c(participant_id = "character"))
rows$arm <- relevel(factor(rows$arm), ref = "control")
fill <- function(x) ifelse(is.na(x), mean(x, na.rm = TRUE), x)
fit <- function(trial, impute) {
  d <- rows[rows$trial == trial, ]
  d$II <- as.numeric(d$nyha == "II"); d$III <- as.numeric(d$nyha == "III")
  d$b <- d$lv_ef_baseline
  # Before anyone is dropped: the mean over both arms; of a level, the share of the trial.
  if (impute) for (name in c("b", "II", "III")) d[[name]] <- fill(d[[name]])
  d$arm <- droplevels(d$arm)
  m <- lm(lv_ef_percent ~ arm + b + II + III, d); co <- coef(summary(m))
  keep <- grep("^arm", rownames(co))
  data.frame(trial = trial, arm = sub("^arm", "", rownames(co)[keep]), estimate = co[keep, 1],
             se = co[keep, 2], df = m$df.residual)
}
each <- function(impute) do.call(rbind, lapply(unique(rows$trial), fit, impute = impute))
cat(toJSON(list(R = R.version.string, mean = each(TRUE), complete = each(FALSE)),
           digits = NA, pretty = TRUE, auto_unbox = TRUE), "\n")
