# Interactions of events: glm and coxph in each trial of events.csv (written by events.R), metafor over
# them. Run: Rscript event_interaction.R > event_interaction.json
suppressMessages({library(metafor); library(survival); library(jsonlite)})
rows <- read.csv("events.csv", colClasses = c(participant_id = "character"))
rows <- rows[rows$arm %in% c("control", "active"), ]
rows$treat <- as.numeric(rows$arm == "active"); rows$male <- as.numeric(rows$sex == "male")
rows$female <- 1 - rows$male; rows$age10 <- rows$age_years / 10
tight <- glm.control(epsilon = 1e-15, maxit = 200)
cox <- coxph.control(eps = 1e-14, iter.max = 200, toler.chol = 1e-14)
trials <- c("ALPHA", "BRAVO", "DELTA", "ECHO")   # CHARLIE: no events in one arm; FOXTROT: none
models <- list(
  `odds-ratio` = function(f, d) glm(update(f, died ~ .), binomial, d, control = tight),
  `hazard-ratio` = function(f, d) coxph(update(f, Surv(mace_day, mace) ~ .), d, ties = "efron",
                                        control = cox))
slope <- function(fit, name) list(estimate = unname(coef(fit)[name]),
                                  se = sqrt(vcov(fit)[name, name]))
out <- lapply(models, function(model) {
  each <- lapply(setNames(trials, trials), function(t) {
    d <- rows[rows$trial == t, ]
    age <- model(~ treat * age10 + male, d)
    # Effects by level: treatment within men and within women
    sex <- model(~ male + treat:male + treat:female, d)
    two <- c("male:treat", "treat:female")
    if (!all(two %in% names(coef(sex)))) two <- c("male:treat", "female:treat")
    list(age = slope(age, "treat:age10"), levels = unname(coef(sex)[two]),
         covariance = unname(vcov(sex)[two, two]), sex = slope(model(~ treat * female, d), "treat:female"))
  })
  pool <- function(what) { y <- sapply(each, function(e) e[[what]]$estimate)
    s <- sapply(each, function(e) e[[what]]$se)
    r <- rma(y, sei = s, test = "adhoc", control = list(threshold = 1e-12, maxiter = 20000))
    list(estimate = as.numeric(r$beta), se = r$se, tau2 = r$tau2, p = r$pval, ci_low = r$ci.lb,
         ci_high = r$ci.ub) }
  list(trials = each, pooled = list(age = pool("age"), sex = pool("sex")))
})
out$made_by <- list(R = R.version.string, metafor = as.character(packageVersion("metafor")),
                    survival = as.character(packageVersion("survival")))
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
